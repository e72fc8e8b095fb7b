// For test_rounding.py: the quantizers on given activations, without an op around them, and Divisor's reciprocals.
#include "common/quantizer.cuh"

namespace {

using namespace bwdeploy;

template <typename T, Mode MODE>
__global__ void quantize(const T* values, QuantizedRows to, int chunks) {
  const int chunk = blockIdx.x * blockDim.x + threadIdx.x;
  const bool active = chunk < chunks;
  const Pack v = active ? load(values + chunk * kPackWidth) : Pack{};
  Quantizer<T, MODE>(*to.given).store(to, 0, chunk, v, active);
}

// How many of the 2^23 divisors from 2^exponent on have another reciprocal than IEEE division.
__global__ void compare_reciprocals(int exponent, int* different) {
  const uint32_t bits = static_cast<uint32_t>(exponent + 127) << 23 | (blockIdx.x * blockDim.x + threadIdx.x);
  const float divisor = __uint_as_float(bits);
  if (Divisor(divisor).reciprocal != __fdiv_rn(1.f, divisor)) atomicAdd(different, 1);
}

template <typename T, Mode MODE>
int run(const void* values, const QuantizedRows& to) {
  const int chunks = to.width / kPackWidth;
  quantize<T, MODE><<<(chunks + 255) / 256, 256>>>(static_cast<const T*>(values), to, chunks);
  return cudaGetLastError();
}

}  // namespace

extern "C" int quantize_row(const void* values, void* codes, void* scales, const float* given, int width,
                            int bf16, int nvfp4) {
  const QuantizedRows to = {codes, scales, given, width};
  if (bf16)
    return nvfp4 ? run<__nv_bfloat16, Mode::kNvfp4Linear>(values, to)
                 : run<__nv_bfloat16, Mode::kFp8Static>(values, to);
  return nvfp4 ? run<__half, Mode::kNvfp4Linear>(values, to) : run<__half, Mode::kFp8Static>(values, to);
}

extern "C" int different_reciprocals(int exponent, int* different) {
  compare_reciprocals<<<(1 << 23) / 256, 256>>>(exponent, different);
  return cudaGetLastError();
}
