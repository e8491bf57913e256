// Refused: the constructor of a variable runs before main, on whatever CPU.
#include <vector>

std::vector<float> values(100, 1.0F);
