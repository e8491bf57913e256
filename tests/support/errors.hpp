#pragma once
/// Checks that a call is refused with a message that says what a user needs.
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "catch.hpp"

namespace po2quant::test {

/// A message of std::invalid_argument must contain every one of `parts`: the function, the argument, what was given and
/// what is allowed.
inline void check_message(const std::string& message, std::initializer_list<const char*> parts) {
    INFO("message: " << (message.empty() ? "nothing was thrown" : message));
    CHECK(message.rfind("po2quant::", 0) == 0);
    for (const char* part : parts) {
        INFO("should name: " << part);
        CHECK(message.find(part) != std::string::npos);
    }
    CHECK(message.find("allowed: ") != std::string::npos);
}

/// `call` must throw one.
template <class F>
void check_refused(F&& call, std::initializer_list<const char*> parts) {
    std::string message;
    try {
        call();
    } catch (const std::invalid_argument& error) {
        message = error.what();
    }
    check_message(message, parts);
}

}  // namespace po2quant::test
