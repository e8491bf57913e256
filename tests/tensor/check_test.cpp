#include <po2quant/tensor/check.hpp>

#include <limits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/errors.hpp"

using namespace po2quant;

namespace {
std::string message_of(void (*call)()) {
    try {
        call();
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "nothing was thrown";
}
}  // namespace

TEST_CASE("messages: function, argument, given, allowed") {
    CHECK(message_of([] { detail::check_range("conv2d", "stride.height", 0, 1, 65536); }) ==
          "po2quant::conv2d: stride.height is 0, allowed: 1..65536");
    CHECK(message_of([] { detail::check_span("f", "input", std::span<const float>(), 4); }) ==
          "po2quant::f: input.size() is 0, allowed: exactly 4");
    CHECK(message_of([] {
              detail::check_span("f", "input", std::span<const float>(static_cast<float*>(nullptr), 4), 4);
          }) == "po2quant::f: input.data() is null, allowed: an address");
}

TEST_CASE("check_range: limits are allowed, and no integer type wraps around") {
    CHECK_NOTHROW(detail::check_range("f", "a", 1, 1, 3));
    CHECK_NOTHROW(detail::check_range("f", "a", 3U, 1, 3));
    CHECK_THROWS_AS(detail::check_range("f", "a", 4, 1, 3), std::invalid_argument);
    CHECK_THROWS_AS(detail::check_range("f", "a", -1, 0, 3), std::invalid_argument);
    CHECK_THROWS_AS(detail::check_range("f", "a", std::numeric_limits<std::uint64_t>::max(), -1, 3),
                    std::invalid_argument);
    CHECK_THROWS_AS(detail::check_range("f", "a", std::numeric_limits<std::int64_t>::min(), -1, 3),
                    std::invalid_argument);
    test::check_refused([] { detail::check_range("f", "a", std::uint64_t{1} << 63, 0, 3); },
                        {"f: a is 9223372036854775808", "0..3"});
}

TEST_CASE("check_span: an empty span needs no address") {
    CHECK_NOTHROW(detail::check_span("f", "a", std::span<const float>(), 0));
}

TEST_CASE("check_overlap: apart, in place, or refused") {
    std::vector<float> memory(16);
    const auto part = [&](std::size_t first, std::size_t count) {
        return std::span<float>(memory).subspan(first, count);
    };
    CHECK_NOTHROW(detail::check_overlap("f", "output", part(0, 8), part(8, 8), false));
    CHECK_NOTHROW(detail::check_overlap("f", "output", part(8, 8), part(0, 8), false));
    CHECK_NOTHROW(detail::check_overlap("f", "output", part(0, 8), part(0, 8), true));
    CHECK_NOTHROW(detail::check_overlap("f", "output", part(4, 0), part(0, 8), false));
    test::check_refused([&] { detail::check_overlap("f", "output", part(0, 8), part(0, 8), false); },
                        {"f: output is memory that overlaps the input", "memory apart from the input"});
    test::check_refused([&] { detail::check_overlap("f", "output", part(1, 8), part(0, 8), true); }, {"f: output"});
    test::check_refused([&] { detail::check_overlap("f", "output", part(0, 8), part(7, 8), true); }, {"f: output"});
    // The same address with another element size is no in-place call.
    const std::span<std::int16_t> codes(reinterpret_cast<std::int16_t*>(memory.data()), 8);
    test::check_refused([&] { detail::check_overlap("f", "codes", codes, part(0, 8), true); }, {"f: codes"});
}
