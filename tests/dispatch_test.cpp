#include <po2quant/dispatch.hpp>

#include <cstdlib>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace po2quant::test {
namespace {

/// Sets PO2QUANT_ISA, and puts back what it was.
class environment {
public:
    explicit environment(const char* value) {
        if (const char* given = std::getenv("PO2QUANT_ISA")) before_ = given;
        if (value == nullptr) unsetenv("PO2QUANT_ISA");
        else setenv("PO2QUANT_ISA", value, 1);
    }
    ~environment() {
        if (had_) setenv("PO2QUANT_ISA", before_.c_str(), 1);
        else unsetenv("PO2QUANT_ISA");
    }
    environment(const environment&) = delete;
    environment& operator=(const environment&) = delete;

private:
    bool had_ = std::getenv("PO2QUANT_ISA") != nullptr;
    std::string before_ = {};
};

/// No CPU has these.
struct tomorrow {
    static constexpr const char* name = "tomorrow";
};
struct never {
    static constexpr const char* name = "never";
};

/// Every CPU of the compiler's baseline has the first two.
using isas = dispatcher<isa_list<arch::generic, default_arch, tomorrow>>;
using no_isas = dispatcher<isa_list<tomorrow, never>>;

std::string names(const std::vector<const char*>& list) {
    std::string all;
    for (const char* name : list) all += std::string(name) + " ";
    return all;
}

}  // namespace

TEST_CASE("dispatcher: the best that this CPU runs, by itself and where PO2QUANT_ISA is empty") {
    for (const char* value : {static_cast<const char*>(nullptr), ""}) {
        const environment set(value);
        const isas run;
        CHECK(std::string(run.isa()) == default_arch::name);
        CHECK(run([]<class Arch>(Arch) { return std::string(Arch::name); }) == default_arch::name);
    }
}

TEST_CASE("dispatcher: forced by PO2QUANT_ISA, and by name whatever it says") {
    const environment set("generic");
    CHECK(std::string(isas().isa()) == "generic");
    CHECK(isas()([]<class Arch>(Arch) { return std::string(Arch::name); }) == "generic");
    const isas named(default_arch::name);
    CHECK(std::string(named.isa()) == default_arch::name);
}

TEST_CASE("dispatcher: lists, and results by reference and by value") {
    const std::string both = std::string("generic ") + default_arch::name + " ";
    CHECK(names(isas::compiled()) == both + "tomorrow ");
    CHECK(names(isas::runnable()) == both);
    CHECK(no_isas::runnable().empty());
    CHECK(names(dispatcher<>::compiled()) == std::string(default_arch::name) + " ");

    int value = 0;
    int& same = isas("generic")([&]<class Arch>(Arch) -> int& { return value; });
    CHECK(&same == &value);
    isas("generic")([&]<class Arch>(Arch) { ++value; });
    CHECK(value == 1);
}

TEST_CASE("dispatcher: names that cannot be are refused") {
    const std::string allowed = std::string("allowed: generic, ") + default_arch::name;
    const environment none(nullptr);
    check_refused([] { isas("tomorrow"); },
                  {"dispatcher: isa is 'tomorrow', which this CPU does not run", allowed.c_str()});
    check_refused([] { isas("AVX2"); },
                  {"dispatcher: isa is 'AVX2', for which this program was not compiled", allowed.c_str()});
    check_refused([] { isas(""); }, {"dispatcher: isa is ''", allowed.c_str()});
    for (const char* name : {"tomorrow", "avx9", " "}) {
        const environment set(name);
        check_refused([] { isas(); }, {"dispatcher: PO2QUANT_ISA is '", name, allowed.c_str()});
    }
    check_refused([] { no_isas("never"); }, {"'never', which this CPU does not run", "allowed: none"});
    CHECK_THROWS_AS(no_isas(), std::runtime_error);
    CHECK_THROWS_WITH(no_isas(),
                      "po2quant::dispatcher: this CPU runs none of the instruction sets that the program was "
                      "compiled for: tomorrow, never");
}

}  // namespace po2quant::test
