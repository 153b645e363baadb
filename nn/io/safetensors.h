// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "ebb/nn/module.h"

// The safetensors format: eight bytes with the length of a JSON header, the header with type, shape
// and place of each tensor, then their elements, little-endian. It holds data only; reading it runs
// nothing.
namespace ebb::io {

/// What a file holds: tensors by name, and notes of the writer's.
struct SafeTensors {
  nn::StateDict tensors;
  std::map<std::string, std::string> metadata;
};

/// Writes a file whole or not at all: whoever reads the path finds the old one or the new one, even
/// if this process is killed. Throws IoError, and ValueError on a tensor that is undefined or named
/// __metadata__ and on a name or note that is not UTF-8.
void write_safetensors(const std::string& path, const SafeTensors& contents);

/// Reads a file. All element types of Ebb are known; others, and anything that is not a whole and
/// consistent file, are an IoError that says what is wrong. Takes no more memory than the file is
/// long. In a bool tensor any byte but 0 is read as true.
SafeTensors read_safetensors(const std::string& path);

/// Stores the parameters and buffers of a module.
void save(const nn::Module& module, const std::string& path);
/// Loads them by name: Module::load_state_dict. Throws IoError, and what that throws; nothing is
/// changed then.
void load(nn::Module& module, const std::string& path, bool strict = true);

}  // namespace ebb::io
