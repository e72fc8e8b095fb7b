// Entry points of silu_mul_quant_fp8 for one activation type: BW_ACTIVATION names the type, BW_NAME its part
// of the entry points' names. A config of null stands for the op's own choice.
#include "silu_mul_quant_fp8/kernel.cuh"

#define BW_JOIN_(name, mode) bwdeploy_silu_mul_quant_fp8_##name##_##mode
#define BW_JOIN(name, mode) BW_JOIN_(name, mode)
#define BW_ENTRY(mode) extern "C" __attribute__((visibility("default"))) int BW_JOIN(BW_NAME, mode)

namespace bwdeploy {
namespace {

using Kernel = void (*)(SiluMulKernelParams);

template <bool GROUPED>
Kernel static_kernel(bool eager) {
  return eager ? silu_mul_quant_fp8_static<BW_ACTIVATION, true, GROUPED>
               : silu_mul_quant_fp8_static<BW_ACTIVATION, false, GROUPED>;
}

cudaError_t launch_static(const SiluMulParams& p, const SiluMulConfig& config, cudaStream_t stream) {
  if (config.packs != 1 || config.cluster != 1 || !flat_threads_fit(config))
    return cudaErrorInvalidConfiguration;
  const Kernel kernel = p.rows_per_expert != nullptr ? static_kernel<true>(p.eager_rounding)
                                                     : static_kernel<false>(p.eager_rounding);
  const int blocks = flat_blocks(p, config);
  return launch(kernel, SiluMulKernelParams(p, config.trigger, blocks), {blocks, config.threads, 1, p.pdl},
                stream);
}

template <int PACKS, bool CLUSTER>
Kernel per_token_kernel(bool eager) {
  return eager ? silu_mul_quant_fp8_per_token<BW_ACTIVATION, PACKS, CLUSTER, true>
               : silu_mul_quant_fp8_per_token<BW_ACTIVATION, PACKS, CLUSTER, false>;
}

template <bool CLUSTER>
Kernel per_token_kernel(int packs, bool eager) {
  switch (packs) {
    case 1:
      return per_token_kernel<1, CLUSTER>(eager);
    case 2:
      return per_token_kernel<2, CLUSTER>(eager);
    case 3:
      return per_token_kernel<3, CLUSTER>(eager);
    case 4:
      return per_token_kernel<4, CLUSTER>(eager);
    default:
      return nullptr;
  }
}

cudaError_t launch_per_token(const SiluMulParams& p, const SiluMulConfig& config, cudaStream_t stream) {
  const Kernel kernel = config.cluster > 1 ? per_token_kernel<true>(config.packs, p.eager_rounding)
                                           : per_token_kernel<false>(config.packs, p.eager_rounding);
  if (kernel == nullptr || !per_token_fits(p, config)) return cudaErrorInvalidConfiguration;
  const int blocks = p.rows * config.cluster;
  return launch(kernel, SiluMulKernelParams(p, config.trigger, blocks),
                {blocks, config.threads, config.cluster, p.pdl}, stream);
}

}  // namespace
}  // namespace bwdeploy

BW_ENTRY(static)(const bwdeploy::SiluMulParams* p, const bwdeploy::SiluMulConfig* config,
                 cudaStream_t stream) {
  if (p->rows == 0) return cudaSuccess;
  return bwdeploy::launch_static(*p, config != nullptr ? *config : bwdeploy::static_config(*p), stream);
}

BW_ENTRY(per_token)(const bwdeploy::SiluMulParams* p, const bwdeploy::SiluMulConfig* config,
                    cudaStream_t stream) {
  if (p->rows == 0) return cudaSuccess;
  return bwdeploy::launch_per_token(*p, config != nullptr ? *config : bwdeploy::per_token_config(*p), stream);
}

// How often the kernels of this unit ran on the current device.
BW_ENTRY(calls)(unsigned long long* calls) { return bwdeploy::read_calls(calls); }
