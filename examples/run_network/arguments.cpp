#include "arguments.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include <po2quant/numerics/exponent.hpp>

namespace run_network {

namespace {

constexpr const char* help =
    "Runs a network of integers, op by op, and prints a table of its layers.\n"
    "\n"
    "  run_network FOLDER [OPTION …]       FOLDER has model.json and the arrays that it names; see FORMAT.md\n"
    "\n"
    "  --golden               compares every op with FOLDER/goldens; exit code 1 where a value differs\n"
    "  --image FILE           a picture, .ppm, .pgm or .npy of uint8; may be given several times\n"
    "  --draw FOLDER          writes the pictures with the boxes found as .ppm\n"
    "  --cifar10 FOLDER       the share of CIFAR-10's pictures classified right, on the official test pictures and on "
    "the\n"
    "                         original project's (data_batch_3[5500:10000]); .bin files, or .bin.xz\n"
    "  --task FILE            what the outputs mean; by default FOLDER/task.json, or tasks/NAME.json\n"
    "  --isa NAME             generic, sse2, sse4_1, avx2, avx_vnni, avx512bw, avx512_vnni; by default what\n"
    "                         PO2QUANT_ISA names, or the best there is\n"
    "  --threads N            1 by default\n"
    "  --input-bits 8 | 16    codes of the input; by default the model's\n"
    "  --input-exponent E     of 16-bit inputs: by default the goldens', or 4 below the model's\n"
    "  --pool exact | int16 | int8   what an average pool that the network does not round leaves; exact by default\n"
    "  --seconds S            how long to measure; 0.3 by default\n"
    "  --json FILE            writes all that was measured and found\n";

template <class T>
T number(const std::string& option, const std::string& text, T low, T high) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high)) {
        char allowed[80];
        std::snprintf(allowed, sizeof allowed, "%g..%g", static_cast<double>(low), static_cast<double>(high));
        throw std::invalid_argument(option + ": '" + text + "' is no number of " + allowed);
    }
    return value;
}

}  // namespace

arguments read_arguments(int count, char** texts) {
    arguments a;
    for (int i = 1; i < count; ++i) {
        const std::string option = texts[i];
        const auto value = [&]() -> std::string {
            if (i + 1 >= count) throw std::invalid_argument(option + ": needs a value; see --help");
            return texts[++i];
        };
        if (option == "--help" || option == "-h") {
            std::fputs(help, stdout);
            std::exit(0);
        } else if (option == "--golden") {
            a.golden = true;
        } else if (option == "--image") {
            a.images.emplace_back(value());
        } else if (option == "--draw") {
            a.draw = value();
        } else if (option == "--cifar10") {
            a.cifar10 = value();
        } else if (option == "--task") {
            a.task = value();
        } else if (option == "--json") {
            a.json = value();
        } else if (option == "--isa") {
            a.isa = value();
        } else if (option == "--threads") {
            a.threads = number(option, value(), 1, 1024);
        } else if (option == "--input-bits") {
            a.input_bits = number(option, value(), 8, 16);
            if (a.input_bits != 8 && a.input_bits != 16) throw std::invalid_argument("--input-bits: allowed: 8, 16");
        } else if (option == "--input-exponent") {
            a.input_exponent = number(option, value(), po2quant::min_exponent, po2quant::max_exponent);
        } else if (option == "--pool") {
            const std::string form = value();
            if (form == "exact") a.pool = pool_form::exact;
            else if (form == "int16") a.pool = pool_form::int16;
            else if (form == "int8") a.pool = pool_form::int8;
            else throw std::invalid_argument("--pool: '" + form + "'; allowed: exact, int16, int8");
        } else if (option == "--seconds") {
            a.seconds = number(option, value(), 0.0, 3600.0);
        } else if (option.starts_with("-")) {
            throw std::invalid_argument("'" + option + "' is not an option; see --help");
        } else if (!a.folder.empty()) {
            throw std::invalid_argument("'" + option + "': the network's folder was given already; see --help");
        } else {
            a.folder = option;
        }
    }
    if (a.folder.empty()) throw std::invalid_argument("the network's folder is missing; see --help");
#if !defined(_OPENMP)
    if (a.threads > 1) throw std::invalid_argument("--threads: this program was built without OpenMP; allowed: 1");
#endif
    return a;
}

}  // namespace run_network
