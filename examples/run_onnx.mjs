// Labels of an image by a file that `dilated export` wrote, in JavaScript; needs onnxruntime-web alone.
//
//     npm install onnxruntime-web
//     node run_onnx.mjs street.onnx photo.ppm labels.ppm
//
// In a page, import `openNetwork` and `labelImage` as run_onnx.html does: a canvas gives the pixels there.

/** Read what the export wrote beside the graph: field 14 of the file, pairs of a key (1) and a value (2). */
export function readMetadata(bytes) {
  const metadata = {};
  for (const [field, property] of readFields(bytes)) {
    if (field !== 14) continue;
    const pair = Object.fromEntries(readFields(property));
    metadata[decode(pair[1])] = decode(pair[2]);
  }
  return metadata;
}

const decode = (bytes) => new TextDecoder().decode(bytes);

/** The numbered fields of a message of protocol buffers that hold bytes. */
function* readFields(bytes) {
  let at = 0;
  const readVarint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = readVarint(), kind = tag % 8;
    if (kind === 0) readVarint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else {
      const length = readVarint();
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    }
  }
}

/** Open a file of labels. `ort` is onnxruntime-web, `bytes` an Uint8Array. */
export async function openNetwork(ort, bytes) {
  const description = JSON.parse(readMetadata(bytes).dilated);
  if (description.output !== 'labels' || description.input) throw new Error('give a file of labels of RGB images');
  return { ort, description, session: await ort.InferenceSession.create(bytes) };
}

/** Label an image: `rgb` has 3 bytes for each pixel, row by row; so many labels come back, ids of `description.classes`. */
export async function labelImage(network, rgb, width, height) {
  const images = new network.ort.Tensor('uint8', rgb, [1, height, width, 3]);
  const { labels } = await network.session.run({ images });
  return labels.data;
}

/** The labels in the classes' colors, 3 bytes for each pixel. */
export function colorLabels(network, labels) {
  const rgb = new Uint8Array(3 * labels.length);
  labels.forEach((label, i) => rgb.set(network.description.colors[label], 3 * i));
  return rgb;
}

/** The share of each class, as lines of text. */
export function describeShares(network, labels) {
  const counts = new Array(network.description.classes.length).fill(0);
  for (const label of labels) counts[label] += 1;
  return network.description.classes.map((name, i) => `${((100 * counts[i]) / labels.length).toFixed(1)}%  ${name}`);
}

async function main(words) {
  if (words.length !== 3) throw new Error('usage: node run_onnx.mjs NETWORK.onnx IMAGE.ppm LABELS.ppm');
  const [file, source, target] = words;
  const { readFileSync, writeFileSync } = await import('node:fs');
  const ort = await import('onnxruntime-web');
  ort.env.logLevel = 'error';
  const image = readFileSync(source);  // a PPM: "P6", width, height and 255 before the pixels
  const header = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(image.subarray(0, 64).toString('latin1'));
  if (!header) throw new Error(`${source}: not a PPM of 8 bits`);
  const [width, height] = [Number(header[1]), Number(header[2])];
  const network = await openNetwork(ort, new Uint8Array(readFileSync(file)));
  const labels = await labelImage(network, new Uint8Array(image.subarray(header[0].length)), width, height);
  writeFileSync(target, Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), colorLabels(network, labels)]));
  console.log(describeShares(network, labels).join('\n'));
}

if (typeof process !== 'undefined' && process.argv?.[1]?.endsWith('run_onnx.mjs')) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
