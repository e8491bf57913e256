#pragma once
/// Checks that a call is refused with a message that says what a user needs.
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "catch.hpp"

namespace po2quant::test {

/// `call` must throw std::invalid_argument whose message contains every one of `parts`: the function, the argument,
/// what was given and what is allowed.
template <class F>
void check_refused(F&& call, std::initializer_list<const char*> parts) {
    std::string message;
    try {
        call();
    } catch (const std::invalid_argument& error) {
        message = error.what();
    }
    INFO("message: " << (message.empty() ? "nothing was thrown" : message));
    CHECK(message.rfind("po2quant::", 0) == 0);
    for (const char* part : parts) {
        INFO("should name: " << part);
        CHECK(message.find(part) != std::string::npos);
    }
    CHECK(message.find("allowed: ") != std::string::npos);
}

}  // namespace po2quant::test
