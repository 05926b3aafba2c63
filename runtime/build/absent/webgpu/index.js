throw new Error("webgpu is not installed: nothing here uses a GPU");
