// A device guard for CUDA that does nothing: lets a torch that was built without CUDA trace fake CUDA tensors, as
// FakeTensorMode does for one that was built with it. Loaded by test_fake_cuda.py.
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
const c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> guard;
const c10::impl::DeviceGuardImplRegistrar registrar(c10::DeviceType::CUDA, &guard);
}  // namespace
