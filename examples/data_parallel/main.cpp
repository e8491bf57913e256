/// The quickstart's training, data-parallel: the ranks of an MPI job share every batch and end with the bits of the
/// quickstart itself.
#include <bit>
#include <cstdio>
#include <stdexcept>

#include "arguments.hpp"
#include "checkpoint.hpp"
#include "mpi_group.hpp"

using namespace quickstart;
using data_parallel::mpi_group;

namespace {

constexpr const char* help =
    "data_parallel: the quickstart's training on 1, 2, 4, 8 or 16 MPI ranks, started by mpiexec\n"
    "  --data DIR     folder of Fashion-MNIST's four .gz files; without it "
    "$PO2QUANT_DATA_DIR/datasets/fashion-mnist,\n"
    "                 and where neither is there, the quickstart's shapes\n"
    "  --shapes       the shapes, whatever is there\n"
    "  --steps N      N steps of training in float32 and N/2 of fine-tuning; 400 by default\n"
    "  --seed N       another shuffle and other first weights\n"
    "  --out DIR      where the checkpoint goes: out/data_parallel by default\n";

/// FNV-1a.
std::uint64_t digest(std::span<const std::byte> bytes) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const std::byte b : bytes) hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3ULL;
    return hash;
}

/// A rank's slots must be a branch of the tree that add_slots adds in.
void check_ranks(int ranks) {
    constexpr std::int64_t most = slot_count(training_batch);
    static_assert(std::has_single_bit(static_cast<std::uint64_t>(most)) && training_batch % slot_images == 0);
    if (!std::has_single_bit(static_cast<unsigned>(ranks)) || ranks > most)
        throw std::invalid_argument("the number of ranks is " + std::to_string(ranks) +
                                    ", allowed: powers of two up to " + std::to_string(most));
}

int run(const arguments& a, const mpi_group& group) {
    check_ranks(group.size());
    const unsigned cores = std::thread::hardware_concurrency();
    const unsigned threads_each = std::max(1U, cores / static_cast<unsigned>(group.neighbours()));
    pool(threads_each);
    progress_line progress(false);  // ranks write to mpiexec, not to a terminal
    const dataset data = load_data(a);

    network net = make_network(a.training.seed);
    train_float32(net, data, a.training, progress, group);
    net = fold_batch_norm(net);
    quantized_graph graph(net, calibration_steps, group);
    calibrate(graph, data.train);
    const training_result result = fine_tune(graph, net, data, a.training, progress);

    const std::vector<std::byte> trackers = tracker_bytes(graph);
    const std::vector<std::byte> weights = weight_bytes(net);
    const double scores[] = {result.curve.back().loss, accuracy(graph, data.test, data.test.count())};
    const bool same = group.agree(trackers) && group.agree(weights) && group.agree(std::as_bytes(std::span(scores)));
    if (group.rank() > 0) return same ? 0 : 1;

    write_checkpoint(a.out, trackers, weights);
    std::printf("%s, %lld test images\n", data.name.c_str(), static_cast<long long>(data.test.count()));
    std::printf("%5s  %7s  %9s  %6s  %8s  %7s  %-16s  %-16s\n", "ranks", "threads", "steps", "loss", "accuracy",
                "ms/step", "trackers", "weights");
    const std::string steps = std::to_string(a.training.steps) + "+" + std::to_string(result.steps);
    std::printf("%5d  %7u  %9s  %6.4f  %6.2f %%  %7.1f  %016llx  %016llx\n", group.size(), threads_each, steps.c_str(),
                scores[0], scores[1], 1000 * result.seconds / static_cast<double>(result.steps),
                static_cast<unsigned long long>(digest(trackers)), static_cast<unsigned long long>(digest(weights)));
    if (same) return 0;
    std::fprintf(stderr, "data_parallel: the ranks do not agree\n");
    return 1;
}

}  // namespace

int main(int count, char** given) {
    arguments a;
    try {
        a = read_arguments(count, given, help,
                           {.out = "out/data_parallel", .training = {.steps = 400, .curve_images = 0}});
    } catch (const std::exception& e) {
        std::fprintf(stderr, "data_parallel: %s\n", e.what());
        return 2;
    }
    const mpi_group group;
    try {
        return run(a, group);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "data_parallel, rank %d: %s\n", group.rank(), e.what());
        group.abort(2);  // the others may be waiting for this rank
    }
}
