# SPDX-License-Identifier: Apache-2.0
# The project of tiny_mlp.cc; tests/install/run.sh puts it beside the program as its CMakeLists.txt.
cmake_minimum_required(VERSION 3.25)
project(tiny_mlp LANGUAGES CXX)

find_package(ebb 0.1 REQUIRED)
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
add_executable(tiny_mlp tiny_mlp.cc)
target_link_libraries(tiny_mlp PRIVATE ebb::ebb)
