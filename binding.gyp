{
  # The front door for npm and prebuildify. It calls the CMake build where CMake and cmake-js are there, and otherwise compiles the
  # portable kernels itself.
  "variables": {
    "via%": "<!(node -p \"let r='gyp';try{require.resolve('cmake-js/bin/cmake-js');if(require('child_process').spawnSync('cmake',['--version']).status===0)r='cmake'}catch{};process.env.FSV_GYP_VIA||r\")"
  },
  "conditions": [
    ["via=='cmake'", {
      "targets": [{
        "target_name": "fsvideo_cmake",
        "type": "none",
        "actions": [{
          "action_name": "cmake_js",
          "inputs": ["CMakeLists.txt", "<!@(node -p \"Object.values(require('./csrc/sources.json')).flat().join(' ')\")"],
          "outputs": ["<(PRODUCT_DIR)/fsvideo.node"],
          "action": ["node", "scripts/cmake-build.cjs", "<(PRODUCT_DIR)/fsvideo.node"]
        }]
      }]
    }, {
      "targets": [{
        "target_name": "fsvideo",
        "sources": ["<!@(node -p \"Object.values(require('./csrc/sources.json')).flat().join(' ')\")"],
        "include_dirs": ["csrc"],
        "dependencies": ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except"],
        "defines": [
          "NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
          "FSV_ISA=portable", "FSV_ISA_LEVEL=0"
        ],
        "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
        "cflags_cc": ["-std=c++20", "-O3", "-fvisibility=hidden", "-fno-math-errno"]
      }]
    }]
  ]
}
