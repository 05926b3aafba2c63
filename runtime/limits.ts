/** Every limit and default of one machine on one page, the unit last in the name. */

// ── store ────────────────────────────────────────────────────────────────────────────────────────────────────────

// ── machine ──────────────────────────────────────────────────────────────────────────────────────────────────────

// ── sandbox ──────────────────────────────────────────────────────────────────────────────────────────────────────

// ── pool ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How far beyond its split a record may reach: what is read on to finish it. Fixed-size records are at most this long. */
export const RECORD_BYTES_MAX: number = 1024 * 1024;
/** One read while looking for the end of a record. */
export const BORDER_STEP_BYTES: number = 64 * 1024;
/** One read while counting the quotes of a CSV split. */
export const QUOTE_STEP_BYTES: number = 1024 * 1024;

// ── schedule and job ─────────────────────────────────────────────────────────────────────────────────────────────
