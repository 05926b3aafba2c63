/** Every limit of the SDK and the command line on one page, the unit last in the name. */

/** A program with everything it imports, as text. */
export const PROGRAM_BYTES_MAX: number = 4 * 1024 * 1024;
