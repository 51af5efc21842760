/**
 * @file hunyuan_ext.h
 * @brief C ABI of the HunyuanVideo kernels: plain pointers, sizes and strides; no torch, no Python. This header has all
 * of it; each family of ops also has its own. Conventions: hunyuan/types.h.
 */
#pragma once

#include "hunyuan/attention.h"
#include "hunyuan/conv3d.h"
#include "hunyuan/linear.h"
#include "hunyuan/norm.h"
#include "hunyuan/template.h"
#include "hunyuan/types.h"
