// No Python and no ATen here: device code that every Python can share, and quick to compile.
#include <c10/cuda/CUDAException.h>

#include "tinyscale.h"

namespace {

constexpr int64_t kThreads = 256;

__global__ void scale_kernel(float* out, const float* x, float factor, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index < count) {
    out[index] = x[index] * factor;
  }
}

}  // namespace

void launch_scale(float* out, const float* x, float factor, int64_t count, cudaStream_t stream) {
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  scale_kernel<<<blocks, kThreads, 0, stream>>>(out, x, factor, count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}
