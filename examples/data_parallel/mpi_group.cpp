#include "mpi_group.hpp"

#include <algorithm>
#include <cstdlib>
#include <type_traits>

#include "float_ops.hpp"

namespace data_parallel {
namespace {

static_assert(std::is_trivially_copyable_v<pq::range>);

/// An MPI_User_function: the library's merge, element by element.
void merge_ranges(void* from, void* to, int* count, MPI_Datatype* /*type*/) {
    const auto* a = static_cast<const pq::range*>(from);
    auto* b = static_cast<pq::range*>(to);
    for (int i = 0; i < *count; ++i) b[i] = pq::merge(a[i], b[i]);
}

}  // namespace

mpi_group::mpi_group() {
    int level = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Type_contiguous(sizeof(pq::range), MPI_BYTE, &range_type_);
    MPI_Type_commit(&range_type_);
    constexpr int commutative = 1;
    MPI_Op_create(merge_ranges, commutative, &merge_);
}

mpi_group::~mpi_group() {
    MPI_Op_free(&merge_);
    MPI_Type_free(&range_type_);
    MPI_Finalize();
}

int mpi_group::neighbours() const {
    MPI_Comm machine = MPI_COMM_NULL;
    int count = 1;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &count);
    MPI_Comm_free(&machine);
    return count;
}

quickstart::image_range mpi_group::share(std::int64_t batch) const {
    const std::int64_t slots = quickstart::slot_count(batch);
    const auto begin = [&](int rank) { return std::min(batch, slots * rank / size_ * quickstart::slot_images); };
    return {begin(rank_), begin(rank_ + 1) - begin(rank_)};
}

// Not MPI_Allreduce: that may add in any order, and the order of float sums decides about their last bits.
void mpi_group::all_reduce(std::span<float> sums) const {
    const int count = static_cast<int>(sums.size());
    received_.resize(sums.size());
    for (int distance = 1; distance < size_; distance *= 2) {
        const int partner = rank_ ^ distance;
        MPI_Sendrecv(sums.data(), count, MPI_FLOAT, partner, 0, received_.data(), count, MPI_FLOAT, partner, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        // a + b and b + a have the same bits, so both partners go on with the same sums.
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += received_[i];
    }
}

// Minimum, maximum and counts: whatever order MPI chooses, the bits are the same.
void mpi_group::all_reduce(pq::range& seen) const {
    MPI_Allreduce(MPI_IN_PLACE, &seen, 1, range_type_, merge_, MPI_COMM_WORLD);
}

bool mpi_group::agree(std::span<const std::byte> bytes) const {
    std::vector<std::byte> first(bytes.begin(), bytes.end());
    MPI_Bcast(first.data(), static_cast<int>(first.size()), MPI_BYTE, 0, MPI_COMM_WORLD);
    int same = std::ranges::equal(first, bytes) ? 1 : 0;
    MPI_Allreduce(MPI_IN_PLACE, &same, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
    return same != 0;
}

void mpi_group::abort(int status) const {
    MPI_Abort(MPI_COMM_WORLD, status);
    std::abort();
}

}  // namespace data_parallel
