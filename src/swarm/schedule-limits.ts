// The times, windows and parts that the scheduler decides by, each with its reason: the one place to look when it is too
// patient or too hasty.

export const limits = {
  /** A source's rate is taken over so long. */
  rateMs: 500,
  /**
   * How much is outstanding at a source: what it delivers in this time. Through full queues on both ways an answer may
   * take more than half a second; with less outstanding than that the rate falls, and the window with it.
   */
  windowMs: 800,
  /** A web seed is asked for ranges: between two of them the link may stand idle for a round trip. */
  webWindowMs: 4000,
  windowPiecesMin: 4,
  webWindowBytesMin: 512 * 1024,
  windowBytesMax: 32 * 1024 * 1024,
  /** Before the rate of a source is known. */
  windowBytesUnknown: 4 * 1024 * 1024,
  windowPiecesMax: 1000,
  /** Judging costs time and needs some to have passed. */
  judgeEveryMs: 100,
  /** A predecessor may take so long to be connected to. */
  connectMs: 1500,
  /**
   * Nothing came while the next in line has it: ask there, and who is further up the line so much later, because those in
   * between ask there as well. Many piece times and round trips on any link worth the name.
   */
  patienceMs: 700,
  /** More than this part of what comes was here before: patience doubles, up to so many times; each second it loses a little. */
  againPart: 0.5,
  patienceTimesMax: 32,
  patienceKept: 0.98,
  /** A new predecessor that lacks what we lack is not to blame for so long: it may be behind us, or have one that is. */
  settleMs: 5000,
  /** Nothing came and nobody has it: the web seed, each host so much later than the one before it. */
  webPatienceMs: 2000,
  webPatienceStepsMax: 5,
  /** Where pieces come in bursts, as from a host whose processor is busy, more patience is due: twice the usual gap. */
  gapMsMax: 2500,
  gapHalfLifeMs: 10_000,
  /** A source that was left is tried again after this, doubling each time it is left again soon. */
  returnMs: 3000,
  returnMsMax: 30_000,
  /** After this part of that when it was only behind and now has what it lacked: meanwhile two are fed by one. */
  returnSoonPart: 0.1,
  /** One that gets on at this part of our pace at least is not slow. */
  returnPart: 0.5,
  /** Paces are compared over this, or over more when so few pieces come in it that chance decides. */
  paceMs: 1000,
  paceMsMax: 16_000,
  pacePiecesMin: 8,
  /** Who is no more pieces behind its source than this, or half a pace, has all that it has. */
  edgePieces: 8,
  /** A source is slow when we get on at less than this part of what the one before it does, so many times on end. */
  slowPart: 0.4,
  slowTimes: 2,
  /** What a host takes from the web seed beside the head, all others lose; but a head that is slow holds up all of them. */
  slowPartBeforeWeb: 0.5,
  slowTimesBeforeWeb: 4,
  /** So much of what another source gets itself must come to us: more than the half that we would share. */
  trialPart: 0.6,
  /** Another source that does not speed things up is not the answer: the narrow place is our own link. */
  trialMs: 1000,
  trialPauseMs: 10_000,
  trialPauseMsMax: 60_000,
  /** What was asked so long ago of a source that is not the chosen one any more is asked of that. */
  straysMs: 3000,
  complaintsMax: 64,
} as const
