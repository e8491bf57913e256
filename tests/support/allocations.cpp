#include "allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> count = 0;

void* counted(void* p) {
    ++count;
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

}  // namespace

std::size_t po2quant::test::allocations() { return count; }

void* operator new(std::size_t n) { return counted(std::malloc(n)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    ++count;
    return std::malloc(n);
}
void* operator new(std::size_t n, std::align_val_t a) {
    const auto align = static_cast<std::size_t>(a);
    return counted(std::aligned_alloc(align, (n + align - 1) / align * align));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
