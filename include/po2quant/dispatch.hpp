#pragma once
/// One program for several instruction sets. CMake's po2quant_add_isa_sources compiles sources once for each; what they
/// offer are templates on the tag, instantiated for default_arch; what calls them chooses at run time:
///
///   passes.hpp   template <class Arch>
///                struct passes { static void forward(std::span<const float> x, std::span<float> out); };
///   passes.cpp   template <class Arch>
///                void passes<Arch>::forward(…) { po2quant::fake_quantize(x, out, …); }
///                template struct passes<po2quant::default_arch>;
///   main.cpp     const po2quant::dispatcher run;
///                run([&]<class Arch>(Arch) { passes<Arch>::forward(x, out); });
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <po2quant/simd/arch.hpp>
#include <po2quant/tensor/check.hpp>

namespace po2quant {

/// Instruction sets, the best last.
template <class... Arch>
struct isa_list {
    static constexpr const char* names[] = {Arch::name...};
};

namespace arch {
#if defined(PO2QUANT_COMPILED_ISAS)
using compiled = isa_list<PO2QUANT_COMPILED_ISAS>;
#else
using compiled = isa_list<default_arch>;
#endif
}  // namespace arch

/// The choice of one instruction set among those that po2quant_add_isa_sources compiled for this source's target; where
/// it compiled nothing, default_arch is the only one. A value: whoever wants one choice for a program keeps one.
///
///   dispatcher()        what the environment variable PO2QUANT_ISA names; where it is not set, or empty, the best that
///                       this CPU runs
///   dispatcher("avx2")  that one
/// Throw std::invalid_argument for names that were not compiled or that this CPU does not run, and std::runtime_error
/// where it runs none.
template <class Isas = arch::compiled>
class dispatcher {
public:
    dispatcher() : dispatcher("PO2QUANT_ISA", environment()) {}
    explicit dispatcher(std::string_view isa) : dispatcher("isa", isa) {
        if (isa.empty()) refuse("isa", "''");
    }

    /// The name of the instruction set that was chosen.
    const char* isa() const { return Isas::names[chosen_]; }

    /// Calls f with its tag: f(arch::avx2{}). What f returns must be of one type for all.
    template <class F>
    decltype(auto) operator()(F&& f) const {
        return call(f, Isas{});
    }

    /// The instruction sets of the program, and those of them that this CPU runs; the best last.
    static std::vector<const char*> compiled() { return {std::begin(Isas::names), std::end(Isas::names)}; }
    static std::vector<const char*> runnable() {
        std::vector<const char*> all;
        for (const char* name : Isas::names)
            if (cpu_supports(name)) all.push_back(name);
        return all;
    }

private:
    dispatcher(const char* argument, std::string_view isa) {
        bool found = false;
        for (std::size_t i = 0; i < std::size(Isas::names); ++i) {
            const bool runs = cpu_supports(Isas::names[i]);
            if (isa == Isas::names[i] && !runs)
                refuse(argument, detail::text("'", Isas::names[i], "', which this CPU does not run"));
            if (!runs || (!isa.empty() && isa != Isas::names[i])) continue;
            chosen_ = i;
            found = true;
        }
        if (found) return;
        if (!isa.empty())
            refuse(argument, detail::text("'", std::string(isa), "', for which this program was not compiled"));
        detail::raise<std::runtime_error>(
            "po2quant::dispatcher: this CPU runs none of the instruction sets that the program was compiled for: " +
            listed(compiled()));
    }

    static std::string_view environment() {
        const char* value = std::getenv("PO2QUANT_ISA");
        return value == nullptr ? "" : value;
    }
    static std::string listed(const std::vector<const char*>& names) {
        std::string all;
        for (const char* name : names) all += (all.empty() ? "" : ", ") + std::string(name);
        return all;
    }
    [[noreturn]] static void refuse(const char* argument, const std::string& given) {
        const std::string allowed = listed(runnable());
        detail::fail("dispatcher", argument, given, allowed.empty() ? "none, this CPU runs none of them" : allowed);
    }

    template <class F, class First, class... Rest>
    decltype(auto) call(F& f, isa_list<First, Rest...>) const {
        using result = decltype(f(First{}));
        static_assert((std::is_same_v<result, decltype(f(Rest{}))> && ...), "f must return one type for all tags");
        constexpr result (*calls[])(F&) = {&call_with<F, First>, &call_with<F, Rest>...};
        return calls[chosen_](f);
    }
    template <class F, class Arch>
    static decltype(auto) call_with(F& f) {
        return f(Arch{});
    }

    std::size_t chosen_ = 0;
};

}  // namespace po2quant
