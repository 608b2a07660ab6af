// Back to front: runs in a worker, so that turning the view never waits for it.
// Takes {records}, then {axis, limit}; answers {order} (Uint32Array) for each axis.
export function sorter(scope) {
  const BUCKETS = 65536;
  const starts = new Uint32Array(BUCKETS + 1);
  let count = 0;
  let xyz, depths, keys;

  // A counting sort of the depth in 65536 steps. Axis (x, y, z, offset) gives the depth of a point.
  function order([x, y, z, offset], near) {
    let low = Infinity, high = -Infinity;
    for (let i = 0, j = 0; i < count; i++, j += 3) {
      const depth = x * xyz[j] + y * xyz[j + 1] + z * xyz[j + 2] + offset;
      depths[i] = depth;
      if (depth > near) {
        if (depth < low) low = depth;
        if (depth > high) high = depth;
      }
    }
    const step = (BUCKETS - 1) / Math.max(high - low, 1e-9);
    starts.fill(0);
    for (let i = 0; i < count; i++) {
      if (!(depths[i] > near)) continue;
      keys[i] = (high - depths[i]) * step;
      starts[keys[i] + 1]++;
    }
    for (let k = 0; k < BUCKETS; k++) starts[k + 1] += starts[k];
    const sorted = new Uint32Array(starts[BUCKETS]);
    for (let i = 0; i < count; i++) if (depths[i] > near) sorted[starts[keys[i]]++] = i;
    return sorted;
  }

  scope.onmessage = ({ data }) => {
    if (data.records) {
      const floats = new Float32Array(data.records.buffer, data.records.byteOffset, data.records.byteLength / 4);
      count = floats.length / 8;
      xyz = new Float32Array(3 * count);
      for (let i = 0; i < count; i++) xyz.set(floats.subarray(8 * i, 8 * i + 3), 3 * i);
      depths = new Float32Array(count);
      keys = new Uint16Array(count);
    } else {
      const sorted = order(data.axis, data.near);
      scope.postMessage({ order: sorted }, [sorted.buffer]);
    }
  };
}
