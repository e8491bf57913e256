#include "runnable_tables.hpp"

#include <po2quant/dispatch.hpp>

namespace po2quant::bench {

const std::vector<kernel_table>& runnable_tables() {
    static const std::vector<kernel_table> all = [] {
        std::vector<kernel_table> tables;
        for (const char* isa : dispatcher<>::runnable()) tables.push_back(dispatcher(isa)(compiled_kernels{}));
        return tables;
    }();
    return all;
}

std::vector<std::string> other_isas() {
    std::vector<std::string> others;
    for (const char* isa : dispatcher<>::compiled())
        if (!cpu_supports(isa)) others.push_back(isa);
    return others;
}

}  // namespace po2quant::bench
