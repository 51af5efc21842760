// What the emulated runtime knows: the devices, the current one, and where kernels were started.
#pragma once

namespace emulator {

struct Runtime {
  int devices = 2, capability = 90;  // of every device: 10 major + minor
  int current = 0, refusal = 0;      // refusal: the error of every call that concerns a device
  int launches = 0, device = -1;     // how many kernels were started, and the device and stream of the last one
  void* stream = nullptr;
  bool one_place = true;  // all were started there

  void launched(void* on) {
    one_place = one_place && (launches == 0 || (device == current && stream == on));
    device = current, stream = on, ++launches;
  }
};

inline Runtime runtime;

}  // namespace emulator
