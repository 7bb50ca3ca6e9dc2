// The table of cells: unpacked from base64 of gzip of variable-length integers (explain/report/neurons_table.py), and
// asked. All counts are whole numbers below 2^53, so that scores are those of Python to the last bit.
"use strict";
let receiveTable = () => {}; // called by the script file of the folder form

async function unpackTable(base64) {
  const text = atob(base64.trim());
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let at = bytes.indexOf(10) + 1;
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, at)));
  const numbers = (count) => {
    const found = new Float64Array(count);
    let place = at;
    for (let i = 0; i < count; i++) {
      let byte = bytes[place++], value = byte & 127;
      for (let scale = 128; byte & 128; scale *= 128) {
        byte = bytes[place++];
        value += (byte & 127) * scale;
      }
      found[i] = value;
    }
    at = place;
    return found;
  };
  const rows = (sizes, steps) => { // steps within each row add up to the values
    const values = new Int32Array(steps.length);
    const begin = new Int32Array(sizes.length + 1);
    for (let row = 0, i = 0; row < sizes.length; row++) {
      let value = 0;
      for (const end = i + sizes[row]; i < end; i++) values[i] = value += steps[i];
      begin[row + 1] = i;
    }
    return { begin, values };
  };
  const pixels = numbers(head.pixels);
  const sets = rows(numbers(head.sets), numbers(head.concepts));
  const units = rows(numbers(head.units), numbers(head.cells));
  const counts = numbers(head.active);
  const active = new Float64Array(head.units);
  for (let unit = 0; unit < head.units; unit++)
    for (let i = units.begin[unit]; i < units.begin[unit + 1]; i++) active[unit] += counts[i];
  return { total: head.total, pixels, sets, units, counts, active };
}

function cellsOf(table, node, numbers) { // Uint8Array: 1 for each cell where the formula holds
  const cells = table.pixels.length;
  if (node.name !== undefined) {
    const mask = new Uint8Array(cells);
    const wanted = numbers.get(node.name);
    const { begin, values } = table.sets;
    for (let cell = 0; cell < cells; cell++)
      for (let i = begin[cell]; i < begin[cell + 1]; i++) if (values[i] === wanted) mask[cell] = 1;
    return mask;
  }
  const [mask, ...others] = node.parts.map((part) => cellsOf(table, part, numbers));
  if (node.op === "not") for (let i = 0; i < cells; i++) mask[i] ^= 1;
  for (const other of others)
    if (node.op === "and") for (let i = 0; i < cells; i++) mask[i] &= other[i];
    else for (let i = 0; i < cells; i++) mask[i] |= other[i];
  return mask;
}

function askTable(table, node, numbers) { // as explain.neurons.asking.ask, in the order of the table's units
  checkNames(node, numbers);
  const mask = cellsOf(table, node, numbers);
  let pixels = 0;
  for (let cell = 0; cell < mask.length; cell++) if (mask[cell]) pixels += table.pixels[cell];
  const { begin, values } = table.units;
  const scores = Array.from(table.active, (active, unit) => {
    let shared = 0;
    for (let i = begin[unit]; i < begin[unit + 1]; i++) if (mask[values[i]]) shared += table.counts[i];
    const union = active + pixels - shared;
    const [s, p, a, t] = [shared, pixels, active, table.total].map(BigInt);
    const spread = p * a * (t - p) * (t - a);
    return {
      unit,
      iou: union ? shared / union : 0,
      precision: pixels ? shared / pixels : 0,
      recall: active ? shared / active : 0,
      correlation: spread ? Number(s * t - p * a) / Math.sqrt(Number(spread)) : 0,
    };
  });
  return { pixels, scores };
}
