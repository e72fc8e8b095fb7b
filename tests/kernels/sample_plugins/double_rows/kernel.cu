// out[i] = 2 * x[i]; the smallest kernel that has a template, a shared header and an entry point in C.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "common/factor.cuh"

namespace sample {
template <typename T>
__global__ void double_rows(const T* x, T* out, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = T(float(x[i]) * kFactor);
}
}  // namespace sample

#define SAMPLE_JOIN_(a, b) a##b
#define SAMPLE_JOIN(a, b) SAMPLE_JOIN_(a, b)

extern "C" __attribute__((visibility("default"))) int SAMPLE_JOIN(bwdeploy_double_rows_, SAMPLE_NAME)(
    const void* x, void* out, int count, cudaStream_t stream) {
  sample::double_rows<<<(count + 255) / 256, 256, 0, stream>>>(static_cast<const SAMPLE_TYPE*>(x),
                                                               static_cast<SAMPLE_TYPE*>(out), count);
  return cudaGetLastError();
}
