#pragma once
/// One line that says what is being done, how far it is and how long the rest will take.
#include <chrono>
#include <string>

namespace quickstart {

/// Seconds since it was made.
class stopwatch {
public:
    double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// On a terminal one line that is written over; in a file a line for every tenth of the run.
class progress_line {
public:
    /// One that is not shown writes nothing.
    explicit progress_line(bool shown = true);

    /// `fraction` of the whole run that is done; `text` says how the phase goes.
    void show(const std::string& phase, double fraction, const std::string& text);
    /// The result of a phase: stays on the screen.
    void finish(const std::string& phase, const std::string& text);
    double seconds() const { return watch_.seconds(); }

private:
    stopwatch watch_;
    bool shown_;
    bool terminal_;
    double shown_at_ = -1;
    int shown_tenth_ = -1;
};

}  // namespace quickstart
