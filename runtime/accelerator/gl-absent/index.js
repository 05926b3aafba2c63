throw new Error("gl is not installed: PacketFS reaches GPUs through WebGPU");
