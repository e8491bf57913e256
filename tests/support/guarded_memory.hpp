#pragma once
/// Memory between two pages that must not be touched: an access behind either end stops the test at once.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>

#include <sys/mman.h>
#include <unistd.h>

namespace po2quant::test {

/// Which end of the memory a buffer lies against.
enum class edge { low, high };
inline constexpr edge edges[] = {edge::low, edge::high};

/// Up to `bytes` of memory. A buffer that does not reach a guard page has canaries there, see untouched_outside.
class guarded_memory {
public:
    explicit guarded_memory(std::size_t bytes) {
        page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        room_ = (bytes + page_ - 1) / page_ * page_;
        void* all = mmap(nullptr, room_ + 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED) throw std::runtime_error("mmap failed");
        begin_ = static_cast<std::byte*>(all) + page_;
        if (mprotect(begin_ - page_, page_, PROT_NONE) != 0 || mprotect(begin_ + room_, page_, PROT_NONE) != 0)
            throw std::runtime_error("mprotect failed");
    }
    ~guarded_memory() { munmap(begin_ - page_, room_ + 2 * page_); }
    guarded_memory(const guarded_memory&) = delete;
    guarded_memory& operator=(const guarded_memory&) = delete;

    /// n elements that start (edge::low) or end (edge::high) `gap` elements away from a guard page: gap 0 touches it,
    /// the others give every alignment that an element can have. The memory is filled with canaries.
    template <class T>
    std::span<T> buffer(std::size_t n, edge side, std::size_t gap = 0) {
        if ((n + gap) * sizeof(T) > room_) throw std::runtime_error("guarded_memory is too small");
        std::memset(begin_, canary, room_);
        auto* low = reinterpret_cast<T*>(begin_);
        auto* high = reinterpret_cast<T*>(begin_ + room_);
        return {side == edge::low ? low + gap : high - gap - n, n};
    }

    /// Whether the canaries around a buffer are all there.
    template <class T>
    bool untouched_outside(std::span<T> buffer) const {
        const auto* first = reinterpret_cast<const std::byte*>(buffer.data());
        return all_canaries(begin_, first) && all_canaries(first + buffer.size_bytes(), begin_ + room_);
    }

private:
    static constexpr int canary = 0xa5;

    static bool all_canaries(const std::byte* from, const std::byte* to) {
        const auto n = static_cast<std::size_t>(to - from);
        // Equal to itself one byte on: all bytes are the first.
        return n == 0 || (*from == static_cast<std::byte>(canary) && std::memcmp(from, from + 1, n - 1) == 0);
    }

    std::size_t page_ = 0;
    std::size_t room_ = 0;
    std::byte* begin_ = nullptr;
};

}  // namespace po2quant::test
