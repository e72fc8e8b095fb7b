// One translation unit for each activation type and scale: BW_ACTIVATION, BW_MODE and BW_NAME come from
// op.toml.
#include "add_rmsnorm_quant_fp8/kernel.cuh"

#define BW_JOIN_(a, b) a##b
#define BW_JOIN(a, b) BW_JOIN_(a, b)

// config null: the op's own choice. Returns a cudaError_t.
extern "C" __attribute__((visibility("default"))) int BW_JOIN(bwdeploy_add_rmsnorm_quant_fp8_, BW_NAME)(
    const bwdeploy::AddRmsNormParams* params, const bwdeploy::AddRmsNormConfig* config, cudaStream_t stream) {
  constexpr bwdeploy::Mode kMode = bwdeploy::Mode::BW_MODE;
  if (config) return bwdeploy::launch_add_rmsnorm_quant<BW_ACTIVATION, kMode>(*params, *config, stream);
  int sms = 0;
  const cudaError_t error = bwdeploy::multiprocessors(&sms);
  if (error != cudaSuccess) return error;
  const auto chosen = bwdeploy::choose_fp8(*params, kMode, sms);
  return bwdeploy::launch_add_rmsnorm_quant<BW_ACTIVATION, kMode>(*params, chosen, stream);
}

extern "C" __attribute__((visibility("default"))) int BW_JOIN(bwdeploy_add_rmsnorm_quant_fp8_,
                                                              BW_JOIN(BW_NAME,
                                                                      _calls))(unsigned long long* calls) {
  return bwdeploy::read_calls(calls);
}
