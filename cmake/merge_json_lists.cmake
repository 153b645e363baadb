# SPDX-License-Identifier: Apache-2.0
# cmake -P merge_json_lists.cmake OUTPUT INPUT...
# Writes one JSON list of the elements of all the lists in the input files, in order.
cmake_minimum_required(VERSION 3.25)

if(CMAKE_ARGC LESS 5)
  message(FATAL_ERROR "usage: cmake -P merge_json_lists.cmake OUTPUT INPUT...")
endif()

set(rows "")
set(separator "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(argument RANGE 4 ${last})
  file(READ "${CMAKE_ARGV${argument}}" text)
  string(JSON length LENGTH "${text}")
  if(length GREATER 0)
    math(EXPR last_row "${length} - 1")
    foreach(i RANGE ${last_row})
      string(JSON row GET "${text}" ${i})
      string(APPEND rows "${separator}${row}")
      set(separator ",\n")
    endforeach()
  endif()
endforeach()
file(WRITE "${CMAKE_ARGV3}" "[\n${rows}\n]\n")
