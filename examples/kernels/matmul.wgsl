const TILE = 64u; // Of the product, for each workgroup; each of its 16 × 16 threads makes 4 × 4 of it.
const DEEP = 16u; // So much of the sums at a time.
var<workgroup> left: array<array<vec4f, 16>, DEEP>;
var<workgroup> right: array<array<vec4f, 16>, DEEP>;

fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.y * TILE;
  let column = group.x * TILE;
  var sums: array<vec4f, 4>;
  for (var step = 0u; step < dims.k; step += DEEP) {
    // A thread loads four numbers below each other of a, and four beside each other of b; zeros beyond their borders.
    for (var i = 0u; i < 4u; i++) {
      let below = row + (thread / DEEP) * 4u + i;
      let across = step + thread % DEEP;
      left[thread % DEEP][thread / DEEP][i] = select(0.0, a[below * dims.k + across], below < dims.m && across < dims.k);
      let down = step + thread / 16u;
      let beside = column + (thread % 16u) * 4u + i;
      right[thread / 16u][thread % 16u][i] = select(0.0, b[down * dims.n + beside], down < dims.k && beside < dims.n);
    }
    workgroupBarrier();
    for (var i = 0u; i < DEEP; i++) {
      let l = left[i][local.y];
      let r = right[i][local.x];
      sums[0] += l.x * r;
      sums[1] += l.y * r;
      sums[2] += l.z * r;
      sums[3] += l.w * r;
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < 4u; j++) {
      let below = row + local.y * 4u + i;
      let beside = column + local.x * 4u + j;
      if (below < dims.m && beside < dims.n) { output[below * dims.n + beside] = sums[i][j]; }
    }
  }
}
