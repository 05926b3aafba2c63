/** The descriptors that an executor process is started with, beside the three that every process has. */
export const PIPE_DESCRIPTOR = 3;
export const WINDOW_DESCRIPTOR = 4;
