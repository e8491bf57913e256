#include "progress.hpp"

#include <unistd.h>

#include <cstdio>

namespace quickstart {

progress_line::progress_line(bool shown) : shown_(shown), terminal_(isatty(STDOUT_FILENO) != 0) {}

void progress_line::show(const std::string& phase, double fraction, const std::string& text) {
    const int tenth = static_cast<int>(fraction * 10);
    if (!shown_ || (terminal_ ? seconds() - shown_at_ < 0.1 : tenth == shown_tenth_)) return;
    shown_at_ = seconds();
    shown_tenth_ = tenth;
    char left[32] = "";
    // The first moments say little about the rest.
    if (fraction > 0.01) std::snprintf(left, sizeof(left), ", %.0f s left", seconds() * (1 - fraction) / fraction);
    std::printf("%s%-28s %-40s %3.0f %%, %.0f s%s%s", terminal_ ? "\r\033[K" : "", phase.c_str(), text.c_str(),
                100 * fraction, seconds(), left, terminal_ ? "" : "\n");
    std::fflush(stdout);
}

void progress_line::finish(const std::string& phase, const std::string& text) {
    if (!shown_) return;
    std::printf("%s%-28s %s\n", terminal_ ? "\r\033[K" : "", phase.c_str(), text.c_str());
    std::fflush(stdout);
    shown_at_ = -1;
}

}  // namespace quickstart
