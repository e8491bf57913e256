#pragma once
/// What training asks of the processes that share its batches.
#include <cstdint>
#include <span>

#include <po2quant/training/range.hpp>

namespace quickstart {

namespace pq = po2quant;

struct image_range {
    std::int64_t first = 0;
    std::int64_t count = 0;
};

/// One process alone: every image is its own, and its sums and ranges are those of the whole batch.
class process_group {
public:
    virtual ~process_group() = default;
    /// Which images of a batch are this process's: whole slots of it (float_ops.hpp), since matrix products of another
    /// size round otherwise.
    virtual image_range share(std::int64_t batch) const { return {0, batch}; }
    /// Sums over this process's images become sums over the batch, with the same bits in every process.
    virtual void all_reduce(std::span<float> /*sums*/) const {}
    /// The range of this process's images becomes that of the batch.
    virtual void all_reduce(pq::range& /*seen*/) const {}
};

inline const process_group one_process{};

}  // namespace quickstart
