// The bounds of histograms, in seconds: of calls, rounds and queries, and of what machines take.

export const quick = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60]
export const slow = [1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 10_800, 36_000]
