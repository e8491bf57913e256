#pragma once
/// What PyTorch brings as a host: its threads as executor, its tensors' memory.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdint>
#include <span>
#include <type_traits>

namespace po2quant_torch {

struct torch_threads {
    template <class F>
    void parallel_for(std::int64_t tasks, F&& f) const {
        at::parallel_for(0, tasks, 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t task = begin; task < end; ++task) f(task);
        });
    }
};

/// The elements of a dense tensor in the order of memory.
template <class T>
std::span<T> elements(const char* name, const at::Tensor& t) {
    TORCH_CHECK(t.is_cpu(), "po2quant: ", name, " is on ", t.device(), ", not on the CPU");
    TORCH_CHECK(t.is_non_overlapping_and_dense(), "po2quant: ", name, " has gaps or overlaps in memory");
    return {t.data_ptr<std::remove_const_t<T>>(), static_cast<std::size_t>(t.numel())};
}

}  // namespace po2quant_torch
