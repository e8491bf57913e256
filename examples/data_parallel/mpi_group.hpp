#pragma once
/// The ranks of an MPI job as the process group of a training graph.
#include <mpi.h>

#include <vector>

#include "process_group.hpp"

namespace data_parallel {

namespace pq = po2quant;

/// One per process: it starts MPI and ends it. All machines must represent a pq::range alike.
class mpi_group final : public quickstart::process_group {
public:
    mpi_group();
    ~mpi_group() override;
    mpi_group(const mpi_group&) = delete;
    mpi_group& operator=(const mpi_group&) = delete;

    int size() const { return size_; }
    int rank() const { return rank_; }
    /// How many of the ranks run on this machine.
    int neighbours() const;

    /// As many slots for each rank, by rank; where that does not go evenly one more for some.
    quickstart::image_range share(std::int64_t batch) const override;
    /// Adds in a binary tree over the ranks, ((0 + 1) + (2 + 3)) + …; the number of ranks must be a power of two.
    void all_reduce(std::span<float> sums) const override;
    void all_reduce(pq::range& seen) const override;

    /// Whether all ranks hold the same bytes; every rank must hold as many.
    bool agree(std::span<const std::byte> bytes) const;
    /// Ends all ranks.
    [[noreturn]] void abort(int status) const;

private:
    int size_ = 1;
    int rank_ = 0;
    MPI_Datatype range_type_ = MPI_DATATYPE_NULL;
    MPI_Op merge_ = MPI_OP_NULL;
    mutable std::vector<float> received_;
};

}  // namespace data_parallel
