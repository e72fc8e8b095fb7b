// One activation type and one number of ranks: a C entry point for each way to quantize.
//
//   -DBW_ACTIVATION=__nv_bfloat16 -DBW_NAME=bf16 -DBW_WORLD=2
//   int bwdeploy_allreduce_add_rmsnorm_quant_bf16_2_fp8(
//       const AllreduceNormParams*, const AllreduceConfig*, cudaStream_t)
#include "allreduce_add_rmsnorm_quant/kernel.cuh"

#define BW_JOIN(name, world, mode) bwdeploy_allreduce_add_rmsnorm_quant_##name##_##world##_##mode
#define BW_ENTRY(name, world, mode) BW_JOIN(name, world, mode)

#define BW_DEFINE_ENTRY(mode_name, mode)                                                                \
  extern "C" __attribute__((visibility("default"))) int BW_ENTRY(BW_NAME, BW_WORLD, mode_name)(         \
      const bwdeploy::AllreduceNormParams* params, const bwdeploy::AllreduceConfig* config,             \
      cudaStream_t stream) {                                                                            \
    return bwdeploy::launch_allreduce_add_rmsnorm_quant<BW_ACTIVATION, mode, BW_WORLD>(*params, config, \
                                                                                       stream);         \
  }

BW_DEFINE_ENTRY(fp8, bwdeploy::Mode::kFp8Static)
BW_DEFINE_ENTRY(fp8_per_token, bwdeploy::Mode::kFp8PerToken)
BW_DEFINE_ENTRY(nvfp4, bwdeploy::Mode::kNvfp4Linear)
BW_DEFINE_ENTRY(nvfp4_swizzled, bwdeploy::Mode::kNvfp4Swizzled)

// How often the kernels of this unit ran on the current device.
extern "C" __attribute__((visibility("default"))) int BW_ENTRY(BW_NAME, BW_WORLD,
                                                               calls)(unsigned long long* calls) {
  return bwdeploy::read_calls(calls);
}
