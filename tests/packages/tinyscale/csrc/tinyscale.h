#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

void launch_scale(float* out, const float* x, float factor, int64_t count, cudaStream_t stream);
