// Activations as they travel through a kernel: 16-byte packs of eight bf16 or fp16 values.
//
// A Pack is what one thread loads or stores at once. Activation<T> opens a 32-bit word of a pack (two values)
// into float32, closes it again with one rounding to nearest even, and adds two words in the activation type.
// Rows are addressed in chunks: chunk c holds columns 8c to 8c + 7.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace bwdeploy {

constexpr int kPackWidth = 8;  // activations in a 16-byte pack

struct alignas(16) Pack {
  uint32_t word[4];
};

// Read through L1 and L2. At thousands of rows, loads past L1, L2 evict-first and 256-byte prefetch each cost
// 1 to 3 % of the bandwidth of an H100.
__device__ __forceinline__ Pack load(const void* address) {
  Pack v;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(address)
               : "memory");
  return v;
}

// Read past L1: shorter for a few rows, where latency counts and nothing is read twice.
__device__ __forceinline__ Pack load_past_l1(const void* address) {
  Pack v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(address)
               : "memory");
  return v;
}

// Read what the kernel launched right before does not write (weights), so also before pdl_wait(). The
// compiler puts this load where registers are cheapest, even behind the wait.
__device__ __forceinline__ Pack load_constant(const void* address) {
  const uint4 v = __ldg(static_cast<const uint4*>(address));
  return {v.x, v.y, v.z, v.w};
}

// The same, and done where it is written: before pdl_wait() it overlaps the end of the previous kernel.
__device__ __forceinline__ Pack load_constant_now(const void* address) {
  Pack v;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(address)
               : "memory");
  return v;
}

// A scale, which an earlier kernel may have written: after pdl_wait().
__device__ __forceinline__ float load_scale(const float* address) {
  float v;
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(address) : "memory");
  return v;
}

__device__ __forceinline__ void store(void* address, const Pack& v) {
  *static_cast<uint4*>(address) = make_uint4(v.word[0], v.word[1], v.word[2], v.word[3]);
}

template <typename T>
struct Activation;

template <>
struct Activation<__nv_bfloat16> {
  static __device__ __forceinline__ float2 unpack(uint32_t word) {
    return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
  }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
  }
  // The exact sum rounded once: the bits of adding in float32 and rounding, since 24 >= 2 * 8 + 2.
  static __device__ __forceinline__ uint32_t add(uint32_t a, uint32_t b) {
    const __nv_bfloat162 v = __hadd2_rn(*reinterpret_cast<const __nv_bfloat162*>(&a),
                                        *reinterpret_cast<const __nv_bfloat162*>(&b));
    return *reinterpret_cast<const uint32_t*>(&v);
  }
};

template <>
struct Activation<__half> {
  static __device__ __forceinline__ float2 unpack(uint32_t word) {
    return __half22float2(*reinterpret_cast<const __half2*>(&word));
  }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
  }
  static __device__ __forceinline__ uint32_t add(uint32_t a, uint32_t b) {  // as above: 24 >= 2 * 11 + 2
    const __half2 v =
        __hadd2_rn(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
    return *reinterpret_cast<const uint32_t*>(&v);
  }
};

template <typename T>
__device__ __forceinline__ Pack add(const Pack& a, const Pack& b) {
  Pack v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.word[i] = Activation<T>::add(a.word[i], b.word[i]);
  return v;
}

template <typename T>
__device__ __forceinline__ void unpack(const Pack& v, float (&values)[kPackWidth]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = Activation<T>::unpack(v.word[i]);
    values[2 * i] = pair.x;
    values[2 * i + 1] = pair.y;
  }
}

template <typename T>
__device__ __forceinline__ Pack pack(const float (&values)[kPackWidth]) {
  Pack v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.word[i] = Activation<T>::pack(values[2 * i], values[2 * i + 1]);
  return v;
}

// A float32 value as the activation type holds it.
template <typename T>
__device__ __forceinline__ float rounded(float value) {
  return Activation<T>::unpack(Activation<T>::pack(value, 0.f)).x;
}

// Largest magnitude of a pack, NaN above all: magnitudes of either type compare as integers.
template <typename T>
__device__ __forceinline__ uint32_t pack_magnitude(const Pack& v) {
  constexpr uint32_t kNoSign = 0x7fff7fffu;
  return __vmaxu2(__vmaxu2(v.word[0] & kNoSign, v.word[1] & kNoSign),
                  __vmaxu2(v.word[2] & kNoSign, v.word[3] & kNoSign));
}

// The larger of the two halves of such a word, as float32.
template <typename T>
__device__ __forceinline__ float magnitude_to_float(uint32_t word) {
  return Activation<T>::unpack(__vmaxu2(word, __byte_perm(word, 0, 0x1032))).x;
}

}  // namespace bwdeploy
