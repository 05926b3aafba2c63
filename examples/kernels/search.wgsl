const WIDTH = 256u;
const BLOCK = 1024u;
const BEST = 10u;
const TILE = 64u; // Vectors and queries at a time; each of 16 × 16 threads makes the products of four with four.
const DEEP = 16u; // So much of the sums at a time.
var<workgroup> tile: array<vec4f, 1024>; // First what is multiplied, then the products.

fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) thread: u32) {
  var best_scores: array<f32, BEST>;
  var best_rows: array<u32, BEST>;
  for (var i = 0u; i < BEST; i++) { best_scores[i] = -3.4028234e38; best_rows[i] = 0xffffffffu; }
  for (var row = group.x * BLOCK; row < min((group.x + 1u) * BLOCK, dims.n); row += TILE) {
    var sums = array<vec4f, 4>();
    for (var step = 0u; step < WIDTH; step += DEEP) {
      let deep = thread % DEEP;
      let four = thread / DEEP;
      for (var i = 0u; i < 4u; i++) {
        let vector = min(row + four * 4u + i, dims.n - 1u);
        let query = min(group.y * TILE + four * 4u + i, dims.q - 1u);
        tile[deep * 16u + four][i] = vectors[vector * WIDTH + step + deep];
        tile[256u + deep * 16u + four][i] = queries[query * WIDTH + step + deep];
      }
      workgroupBarrier();
      for (var i = 0u; i < DEEP; i++) {
        let four_vectors = tile[i * 16u + local.y];
        let four_queries = tile[256u + i * 16u + local.x];
        for (var j = 0u; j < 4u; j++) { sums[j] += four_vectors[j] * four_queries; }
      }
      workgroupBarrier();
    }
    for (var j = 0u; j < 4u; j++) { tile[(local.y * 4u + j) * 16u + local.x] = sums[j]; }
    workgroupBarrier();
    // A thread for each query keeps the best rows; of those that score the same, the first.
    for (var r = 0u; thread < TILE && r < min(TILE, dims.n - row); r++) {
      let score = tile[r * 16u + thread / 4u][thread % 4u];
      if (score > best_scores[BEST - 1u]) {
        var place = BEST - 1u;
        for (; place > 0u && score > best_scores[place - 1u]; place--) {
          best_scores[place] = best_scores[place - 1u];
          best_rows[place] = best_rows[place - 1u];
        }
        best_scores[place] = score;
        best_rows[place] = row + r;
      }
    }
    workgroupBarrier();
  }
  let query = group.y * TILE + thread;
  for (var i = 0u; thread < TILE && query < dims.q && i < BEST; i++) {
    scores[(query * dims.blocks + group.x) * BEST + i] = best_scores[i];
    rows[(query * dims.blocks + group.x) * BEST + i] = best_rows[i];
  }
}
