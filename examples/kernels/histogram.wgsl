var<workgroup> own: array<atomic<u32>, 256>;

fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  // Each of 256 threads takes 64 words of its workgroup's 64 KiB, so that neighbours read neighbours.
  for (var i = 0u; i < 64u; i++) {
    let word = (group.x * 64u + i) * 256u + thread;
    for (var byte = 0u; byte < 4u; byte++) {
      if (word * 4u + byte < dims.n) { atomicAdd(&own[extractBits(data[word], byte * 8u, 8u)], 1u); }
    }
  }
  workgroupBarrier();
  atomicAdd(&output[thread], atomicLoad(&own[thread]));
}
