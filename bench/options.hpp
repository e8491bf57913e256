#pragma once
/// Options of the programs that time their rows in rounds.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <regex>
#include <string>

namespace po2quant::bench {

struct options {
    std::string json;
    std::regex filter{".*"};
    int rounds = 21;
    unsigned seed = 1;
};

/// Ends the program with a message where an option is none or cannot have its value.
inline options parse_options(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; i += 2) {
        const std::string name = argv[i];
        if (i + 1 == argc || (name != "--json" && name != "--filter" && name != "--rounds" && name != "--seed")) {
            std::fprintf(stderr, "%s: allowed are --json FILE, --filter REGEX, --rounds N, --seed N\n", name.c_str());
            std::exit(2);
        }
        try {
            if (name == "--json") o.json = argv[i + 1];
            if (name == "--filter") o.filter = std::regex(argv[i + 1]);
            if (name == "--rounds") o.rounds = std::max(3, std::stoi(argv[i + 1]));
            if (name == "--seed") o.seed = static_cast<unsigned>(std::stoul(argv[i + 1]));
        } catch (const std::exception&) {
            std::fprintf(stderr, "%s %s: not a value it can have\n", name.c_str(), argv[i + 1]);
            std::exit(2);
        }
    }
    // Before minutes of measuring.
    if (!o.json.empty() && !std::ofstream(o.json, std::ios::app)) {
        std::fprintf(stderr, "%s cannot be written\n", o.json.c_str());
        std::exit(2);
    }
    return o;
}

}  // namespace po2quant::bench
