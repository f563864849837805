// Labels of an image by a file that `dilated export` wrote, in C++; needs OpenVINO alone, whose wheel holds all of it:
//
//     pip install openvino
//     OV=$(python -c 'import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)')
//     c++ -std=c++17 -O2 run_onnx.cpp -I$OV/include $OV/libs/libopenvino.so.[0-9]* -Wl,-rpath,$OV/libs -o run_onnx
//     ./run_onnx street.onnx photo.ppm labels.pgm       # `convert photo.jpg photo.ppm` makes a PPM
//
// The labels are a gray image of class ids; the share of each id is printed.

#include <openvino/openvino.hpp>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
    if (argc != 4) throw std::runtime_error("run_onnx NETWORK.onnx IMAGE.ppm LABELS.pgm");
    std::ifstream source(argv[2], std::ios::binary);
    std::string magic;
    std::size_t width = 0, height = 0, most = 0;
    source >> magic >> width >> height >> most;
    if (!source || magic != "P6" || most != 255) throw std::runtime_error(std::string(argv[2]) + ": not a PPM of 8 bits");
    source.get();  // the one white space before the pixels
    ov::Tensor images(ov::element::u8, {1, height, width, 3});
    source.read(static_cast<char*>(images.data()), static_cast<std::streamsize>(images.get_byte_size()));
    if (!source) throw std::runtime_error(std::string(argv[2]) + ": cut off");

    ov::Core core;
    // On some processors OpenVINO computes in bf16 unless told otherwise, which changes labels.
    auto network = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = network.create_infer_request();
    request.set_input_tensor(images);
    request.infer();
    const ov::Tensor labels = request.get_output_tensor();
    if (labels.get_element_type() != ov::element::u8 || labels.get_size() != height * width)
        throw std::runtime_error(std::string(argv[1]) + ": not a file of labels of up to 255 classes");

    const auto* ids = labels.data<std::uint8_t>();
    std::ofstream target(argv[3], std::ios::binary);
    target << "P5\n" << width << ' ' << height << "\n255\n";
    target.write(reinterpret_cast<const char*>(ids), static_cast<std::streamsize>(labels.get_size()));
    std::map<int, std::size_t> counts;
    for (std::size_t i = 0; i < labels.get_size(); ++i) ++counts[ids[i]];
    for (const auto& [id, count] : counts) std::cout << id << ' ' << double(count) / double(labels.get_size()) << '\n';
    return target.flush() ? 0 : 1;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
