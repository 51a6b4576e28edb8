// Sixteen floats, in as many registers as the machine needs for them.
#pragma once

#include <stdint.h>

typedef float v16 __attribute__((vector_size(64)));
typedef float v16u __attribute__((vector_size(64), aligned(4), may_alias));
