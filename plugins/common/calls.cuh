// Launches counted on the device, so that replays of a CUDA graph count too.
//
// Each translation unit has its own counter: count_call() in a kernel adds one for the grid, read_calls()
// fetches what this unit has counted so far on the current device. An op's total is the sum over its units.
#pragma once
#include <cuda_runtime.h>

namespace bwdeploy {

static __device__ unsigned long long unit_calls;

__device__ __forceinline__ void count_call() {
  if (blockIdx.x == 0 && threadIdx.x == 0)
    asm volatile("red.global.add.u64 [%0], 1;" ::"l"(&unit_calls) : "memory");
}

// Waits for nothing but its own copy, and may be called while another thread captures a CUDA graph.
inline cudaError_t read_calls(unsigned long long* calls) {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaError_t error = cudaThreadExchangeStreamCaptureMode(&mode);
  if (error != cudaSuccess) return error;
  void* counter = nullptr;
  cudaStream_t stream = nullptr;
  error = cudaGetSymbolAddress(&counter, unit_calls);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) {
    error = cudaMemcpyAsync(calls, counter, sizeof(*calls), cudaMemcpyDeviceToHost, stream);
    const cudaError_t finished = cudaStreamSynchronize(stream);
    if (error == cudaSuccess) error = finished;
    cudaStreamDestroy(stream);
  }
  cudaThreadExchangeStreamCaptureMode(&mode);
  return error;
}

}  // namespace bwdeploy
