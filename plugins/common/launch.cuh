// A kernel launch with the two attributes our ops use: programmatic dependent launch and a thread block
// cluster.
#pragma once
#include <cuda_runtime.h>

namespace bwdeploy {

struct LaunchShape {
  int blocks;   // in all, a multiple of cluster
  int threads;  // per block
  int cluster;  // blocks in a cluster; 1: none
  bool pdl;     // the kernel calls pdl_wait() (pdl.cuh)
};

template <typename Params>
cudaError_t launch(void (*kernel)(Params), const Params& params, const LaunchShape& shape,
                   cudaStream_t stream) {
  cudaLaunchAttribute attributes[2];
  int count = 0;
  if (shape.pdl) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = shape.cluster;
    attributes[count].val.clusterDim.y = 1;
    attributes[count++].val.clusterDim.z = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(shape.blocks);
  config.blockDim = dim3(shape.threads);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, params);
}

// Multiprocessors of the current device; 0 with an error.
inline cudaError_t multiprocessors(int* count) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  return error != cudaSuccess ? error : cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
constexpr int round_up(int a, int b) { return divide_up(a, b) * b; }

}  // namespace bwdeploy
