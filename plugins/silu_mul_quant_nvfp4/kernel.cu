// Entry points of silu_mul_quant_nvfp4 for one activation type: BW_ACTIVATION names the type, BW_NAME its
// part of the entry points' names. A config of null stands for the op's own choice.
#include "silu_mul_quant_nvfp4/kernel.cuh"

#define BW_JOIN_(name, mode) bwdeploy_silu_mul_quant_nvfp4_##name##_##mode
#define BW_JOIN(name, mode) BW_JOIN_(name, mode)
#define BW_ENTRY(mode) extern "C" __attribute__((visibility("default"))) int BW_JOIN(BW_NAME, mode)

namespace bwdeploy {
namespace {

using Kernel = void (*)(SiluMulKernelParams);

template <int PACKS, Mode MODE, bool GROUPED>
Kernel kernel_for(bool eager) {
  return eager ? silu_mul_quant_nvfp4<BW_ACTIVATION, PACKS, MODE, true, GROUPED>
               : silu_mul_quant_nvfp4<BW_ACTIVATION, PACKS, MODE, false, GROUPED>;
}

template <int PACKS, Mode MODE>
Kernel kernel_for(const SiluMulParams& p) {
  return p.rows_per_expert != nullptr ? kernel_for<PACKS, MODE, true>(p.eager_rounding)
                                      : kernel_for<PACKS, MODE, false>(p.eager_rounding);
}

template <Mode MODE>
cudaError_t launch_mode(const SiluMulParams& p, const SiluMulConfig& config, cudaStream_t stream) {
  const bool fits =
      (config.packs == 1 || config.packs == 2) && config.cluster == 1 && flat_threads_fit(config);
  if (!fits) return cudaErrorInvalidConfiguration;
  const Kernel kernel = config.packs == 1 ? kernel_for<1, MODE>(p) : kernel_for<2, MODE>(p);
  const int row_blocks = flat_blocks(p, config);
  const int blocks = row_blocks + padding_blocks<MODE>(p, config.threads);
  return launch(kernel, SiluMulKernelParams(p, config.trigger, row_blocks),
                {blocks, config.threads, 1, p.pdl}, stream);
}

template <Mode MODE>
int entry(const SiluMulParams& p, const SiluMulConfig* config, cudaStream_t stream) {
  if (p.rows == 0) return cudaSuccess;
  return launch_mode<MODE>(p, config != nullptr ? *config : nvfp4_config(p), stream);
}

}  // namespace
}  // namespace bwdeploy

BW_ENTRY(linear)(const bwdeploy::SiluMulParams* p, const bwdeploy::SiluMulConfig* config,
                 cudaStream_t stream) {
  return bwdeploy::entry<bwdeploy::Mode::kNvfp4Linear>(*p, config, stream);
}

BW_ENTRY(swizzled)(const bwdeploy::SiluMulParams* p, const bwdeploy::SiluMulConfig* config,
                   cudaStream_t stream) {
  return bwdeploy::entry<bwdeploy::Mode::kNvfp4Swizzled>(*p, config, stream);
}

// How often the kernels of this unit ran on the current device.
BW_ENTRY(calls)(unsigned long long* calls) { return bwdeploy::read_calls(calls); }
