/** Every limit and default of machines that speak with each other on one page, the unit last in the name. */
import { CHUNK_BYTES_MAX } from "../packets/limits.ts";

// ── wire ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How long a dial waits for a connection; from then on it waits for each step of the handshake as for any peer, PEER_LOST_MS. */
export const CONNECT_TIMEOUT_MS = 5_000;
/** How long a connection may take for its encrypted handshake. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** How long a connection may take from then on for its signed HELLO. */
export const HELLO_TIMEOUT_MS = 5_000;
/** Pauses between dials: the first, and the longest, each twice as long as the one before. */
export const RECONNECT_MS_MIN = 250;
export const RECONNECT_MS_MAX = 10_000;
/** What a client asks waits so long for a lost hub to be there again, with pauses between dials up to this long. */
export const CLIENT_RECONNECT_MS = 30_000;
export const CLIENT_REDIAL_MS_MAX = 2_000;
/** What is asked is asked over so many sessions that are lost one after the other, and then it has failed. */
export const SESSIONS_PER_REQUEST_MAX = 10;
/** A side that has said nothing for this long says PING: twice at least before it would be taken for lost. */
export const PING_INTERVAL_MS = 3_500;
/**
 * A peer that has said nothing for this long is lost, by the time that this process had turns to listen. A process that dies
 * is noticed at once, by its connection; this is for machines that hang or vanish, and longer than an event loop that
 * computes should be busy.
 */
export const PEER_LOST_MS = 10_000;
/** Before a message that may take long on a slow line, the peer is told how long: at this speed, up to this long. */
export const SLOW_LINE_BYTES_PER_SECOND: number = 256 * 1024;
export const SILENCE_MS_MAX = 60_000;
/** Messages with bodies up to this many bytes are not announced. */
export const UNANNOUNCED_BYTES_MAX: number = 768 * 1024;
/** How often time passes for a link, which its timeouts are accurate to; and while nobody waits for anything. */
export const TICK_MS = 100;
export const IDLE_TICK_MS = 1_000;
/** What is beyond this of the time between two ticks is this process's own delay, and no peer's time. */
export const TICK_LATENESS_MS_MAX = 100;
/** How long a link that closes tries to get rid of what it has to say. */
export const CLOSE_FLUSH_MS = 1_000;

/** How long a closed socket keeps what was written to it. Above half a second zeromq.js complains when a process ends. */
export const SOCKET_LINGER_MS = 300;

/**
 * How long a peer whose session lives may leave a request without a word before the request is given up: what is answered
 * from an index, what carries chunks, and what takes work. Whoever works on a request says so every AT_WORK_INTERVAL_MS, so
 * slowness is no silence.
 */
export const QUESTION_SILENCE_MS = 10_000;
export const TRANSFER_SILENCE_MS = 15_000;
export const WORK_SILENCE_MS = 15_000;
export const AT_WORK_INTERVAL_MS = 2_500;
/** What one machine asks another for its own has an end, however often the other says that it is at work: a question, and chunks. */
export const QUESTION_TIMEOUT_MS = 60_000;
export const TRANSFER_TIMEOUT_MS = 300_000;
/** A peer that let a request time out in silence is asked last, or not at all, for this long. */
export const SUSPICION_MS = 30_000;
/** When a peer has not said for so long which chunks it has, others are asked. */
export const FETCH_PATIENCE_MS = 3_000;

/** Bytes that may be under way to a peer without it having said that they came. */
export const LINK_WINDOW_BYTES: number = 16 * 1024 * 1024;
/** On a slow line fewer are, so that a control message does not wait behind them: what the line moves in this time. */
export const LINK_WINDOW_MS = 250;
export const LINK_WINDOW_BYTES_MIN: number = 1024 * 1024;
/** The receiver says what came at least this often. */
export const CREDIT_BYTES: number = 256 * 1024;
/** What a message counts for in windows and queues beside its bytes. */
export const MESSAGE_COST_BYTES = 1024;
/** Bytes that a link holds for a slow peer: with more the session ends. New requests are refused earlier. */
export const REQUEST_QUEUE_BYTES_MAX: number = 48 * 1024 * 1024;
export const LINK_QUEUE_BYTES_MAX: number = 64 * 1024 * 1024;
/** `drained` resolves below this. */
export const LINK_QUEUE_LOW_BYTES: number = 8 * 1024 * 1024;
/** Bytes of requests that wait for their answers on the other side; further ones wait on this side. */
export const REQUESTS_OUTSTANDING_BYTES_MAX: number = 32 * 1024 * 1024;
/** Bytes of one peer's requests that are worked on, also of those that it withdrew; further ones are refused. */
export const AT_WORK_BYTES_MAX: number = 2 * REQUESTS_OUTSTANDING_BYTES_MAX;
/** Requests of one side that wait for their answers. */
export const REQUESTS_PER_LINK_MAX = 4096;
/** Bytes of a stream's replies that its reader has not taken yet. */
export const STREAM_CREDIT_BYTES: number = 4 * 1024 * 1024;
/** Requests that came before somebody said who answers them. */
export const EARLY_REQUESTS_MAX = 256;

/** Bytes that encryption and framing add to a frame at most; ZeroMQ counts them. */
export const FRAME_OVERHEAD_BYTES = 4096;
/** ZeroMQ's own bound on messages per peer. The windows keep below it. */
export const SOCKET_MESSAGES_MAX: number = 32 * 1024;
/** What one peer is sent before others of the same socket have their turn, */
export const SOCKET_TURN_BYTES: number = 256 * 1024;
/** and when a peer for whom ZeroMQ has no room is tried again. */
export const SOCKET_RETRY_MS = 5;
/** Metadata of a HELLO, CHALLENGE or WELCOME. */
export const HELLO_BYTES_MAX: number = 8 * 1024;
export const FEATURES_MAX = 32;
export const FEATURE_CHARACTERS_MAX = 32;
/** Walls that an executor says its programs are behind, and the name of one. */
export const WALLS_MAX = 32;
export const WALL_CHARACTERS_MAX = 64;
/** Executors that one machine offers, their names, and packets that one works on at once. */
export const OFFERS_MAX = 16;
export const OFFER_NAME_CHARACTERS_MAX = 16;
export const OFFER_CAPACITY_MAX = 4096;
/** GPUs that a machine says it does not use, and the sentence that says why. */
export const UNUSED_ACCELERATORS_MAX = 16;
export const REASON_CHARACTERS_MAX = 512;
export const EDITION_CHARACTERS_MAX = 64;
export const ADDRESS_CHARACTERS_MAX = 262;
/** Connections of a port, and those of one key among them. */
export const CONNECTIONS_MAX = 8192;
export const CONNECTIONS_PER_KEY_MAX = 512;
export const ALLOW_LIST_ENTRIES_MAX = 65_536;
/** How often a hub looks whether its tokens were changed or expired, told or not: who is revoked is out after that at most. */
export const ACCESS_LOOK_MS = 800;
/** What changed less long ago may have changed once more without showing in a file system's times. */
export const ACCESS_SETTLED_MS = 2_000;
export const TOKEN_NAME_CHARACTERS_MAX = 64;
/** Jobs that a key without a quota of its own may have running: of a hub's JOBS_MAX some are left to others. */
export const JOBS_PER_KEY_MAX = 48;
/** Names of results that a submitter may replace: its latest. */
export const RESULT_NAMES_PER_KEY_MAX = 1000;
/** How long what a key stored is counted in memory alone. */
export const USAGE_SAVE_MS = 500;
/** Of the chunks that a key stored, those that are read and looked for together after a gc. */
export const STORED_CHUNKS_PAGE = 4096;
/** Reports of refusals per second; those beyond are counted only. */
export const REFUSAL_REPORTS_PER_SECOND = 5;
/** Connections that are no sessions yet and whose keys are not known: with more, the address that has most loses its oldest. */
export const PENDING_CONNECTIONS_MAX = 1024;
/** A dialing side's encrypted key and metadata. */
export const INITIATE_BYTES_MAX = 4096;
/** How long a connection that ends may take for what was written to it. */
export const CONNECTION_LINGER_MS = 1_000;
/**
 * Bytes of one connection that went into ZeroMQ and did not come out as messages; no more is read of it until some do. Above
 * the largest message, and above what the window lets a peer have under way in good times.
 */
export const UNDELIVERED_BYTES_MAX: number = 20 * 1024 * 1024;
/** The same of all connections of one key; then one of them at a time goes on. */
export const UNDELIVERED_BYTES_PER_KEY_MAX: number = 64 * 1024 * 1024;
/** So few of one connection keep it from nothing, whatever its key has. */
export const UNDELIVERED_BYTES_FREE: number = 64 * 1024;
/** How long others of its key wait for the one that goes on, while nothing comes out of it. */
export const KEY_TURN_MS_MAX: number = SILENCE_MS_MAX;
/** A connection of which no more is read is cut when nothing comes out of it for so many ticks. */
export const FLOOD_TICKS = 10;
/** Whoever did harm is kept out at its address: the first time, and at most; what it did counts half after a while. */
export const PAUSE_MS_MIN = 1_000;
export const PAUSE_MS_MAX = 60_000;
export const PENALTY_HALF_LIFE_MS = 60_000;
/** Those that are remembered for it, the latest ones. */
export const PENALTIES_MAX = 4096;
/** How long the check that the port is guarded may take, for each of two connections, by the loop's clock. */
export const PORT_CHECK_MS_MAX = 60_000;

/** A record of a bulk channel: its head, and its body, which one chunk fits into. */
export const BULK_HEAD_BYTES_MAX: number = 64 * 1024;
export const BULK_BODY_BYTES_MAX: number = CHUNK_BYTES_MAX;
/** What is encrypted or decrypted of one in one go: longer pieces are memory that the system maps, and clears, for each of them. */
export const BULK_PIECE_BYTES: number = 64 * 1024;
/** What one key of a bulk channel seals, and then the next one follows: 2^32 blocks of AES, far from where chance would tell something. */
export const BULK_KEY_BYTES_MAX: number = 64 * 1024 * 1024 * 1024;
export const BULK_KEY_RECORDS_MAX: number = 16 * 1024 * 1024;
/** Bulk channels of one link, those that are about to be opened too. */
export const BULK_CHANNELS_PER_LINK_MAX = 4;
/** How long a port expects whoever was promised a channel. */
export const BULK_TICKET_MS = 30_000;
/** What came over a channel and nobody has said what becomes of it: with more, nothing is read. */
export const BULK_HELD_BYTES_MAX: number = 8 * 1024 * 1024;
/** Messages that the system has are told of together: with so many bytes, with what else there is to tell, or after so long. */
export const BULK_SENT_BYTES: number = 1024 * 1024;
export const BULK_SENT_MS = 20;
/** Bytes of a channel that wait for the system to take them; with more, nothing is sealed. */
export const BULK_UNWRITTEN_BYTES_MAX: number = 1024 * 1024;
/** Messages whose files are read before their turn. */
export const BULK_READ_AHEAD = 3;
/** Ranges of a file that are so near each other are read together, and so many pieces of memory at once. */
export const BULK_READ_GAP_BYTES_MAX: number = 4 * 1024;
export const BULK_READ_PIECES_MAX = 256;
/** Bodies that a thread keeps memory for; read at once by a dialing side; and pieces of a file that are written at once. */
export const BULK_SPARE_BLOCKS_MAX = 16;
export const BULK_READ_BYTES: number = 256 * 1024;
export const BULK_WRITE_PIECES_MAX = 256;
/** Files that a thread keeps open, and how long after their last use. */
export const BULK_FILES_OPEN_MAX = 64;
export const BULK_FILES_IDLE_MS = 1_000;
/** What was handed to a channel and has not left: `room` waits for less than the one, and with more than the other it ends. */
export const BULK_QUEUE_LOW_BYTES: number = 4 * 1024 * 1024;
export const BULK_QUEUE_BYTES_MAX: number = 64 * 1024 * 1024;
/** A channel that nobody used for so long is closed; the next use opens one. */
export const BULK_IDLE_MS = 30_000;

/** Shorter files are there sooner by messages of the session, which open no channel. */
export const TRANSFER_FILE_BYTES_MIN: number = 256 * 1024;
/** Transfers of one channel that a sender has open; */
export const TRANSFERS_PER_CHANNEL_MAX = 64;
/** of those of all of them, bytes that are read and not handed to the channel, */
export const TRANSFER_READY_BYTES_MAX: number = 8 * 1024 * 1024;
/** and that are handed to it and have not left. */
export const TRANSFER_QUEUE_BYTES_MAX: number = 4 * 1024 * 1024;
/** Of what may be on its way it is granted so much at a time, where messages are placed and where they come. */
export const TRANSFER_GRANTS_PER_WINDOW = 8;
/** A receiver with so much of the window lying there, or a sender that has used so much less, is what takes the time. */
export const TRANSFER_BOTTLENECK_SHARE = 0.4;
/** Messages that were placed where they came are told of after so many bytes of them, or so long. */
export const TRANSFER_TOLD_BYTES: number = 1024 * 1024;
export const TRANSFER_TOLD_MS = 20;
/** Of one transfer, bytes that are made before they are granted. */
export const TRANSFER_AHEAD_BYTES: number = 2 * 1024 * 1024;
/** Chunks of a file that is put of which is asked first whether they are there, before all are asked about. */
export const CHUNKS_TRIED = 64;
/** Roots that a receiver may say that it has. */
export const TRANSFER_BASES_MAX = 8;
/** Versions of the name that a put is for, which may be bases of it. */
export const TRANSFER_NAME_BASES_MAX = 2;
/** Ranges of a file that are told of when a transfer goes on; the shortest of more are sent again. */
export const RESUME_RANGES_MAX = 1024;
/** Bytes of the chunks of one message that is a patch: it is no longer than a body may be, and its list beside it. */
export const TRANSFER_PATCH_BYTES: number = 768 * 1024;
/** Chunks and streams that are named and have not come, of one transfer: those of some 64 GiB. */
export const TRANSFER_LACKING_MAX: number = 1024 * 1024;
/** Chunks of one message of a transfer that are as they are stored. */
export const TRANSFER_ROWS_MAX = 1024;
/** Chunks whose places in files are looked up together, and those that are read together where they have none. */
export const TRANSFER_PLACES = 128;
export const TRANSFER_READ_CHUNKS = 16;
/** Chunks of a file that lie where they are sent from, of which nobody looks whether they are smaller compressed: some tens of MiB, at most. */
export const TRANSFER_UNREAD_CHUNKS_MAX = 512;
/** What may be on its way to a receiver: of short files (the largest message fits), of each thousand bytes, and at most. */
export const TRANSFER_CREDIT_BYTES_MIN: number = 2 * 1024 * 1024;
export const TRANSFER_CREDIT_PER_MILLE = 2;
export const TRANSFER_CREDIT_BYTES_MAX: number = 16 * 1024 * 1024;
/** Messages that fit into what may be on its way, where that is not much: fewer cost more time, more of them more work. */
export const TRANSFER_MESSAGES_PER_WINDOW = 3;
/**
 * Chunks go compressed together where less than so many bytes a second go by, which is about what a core makes of chunks; over how many
 * bytes that is measured, and of plain bytes how fast a core is; the share of them that it has to save; after how many bytes it is measured again how fast it is as stored,
 * where a core is what takes the time, at first; the bytes after which it is tried again where it was of no use, at first; and both at most.
 */
export const SOLID_LINK_BYTES_MAX: number = 24 * 1024 * 1024;
export const SOLID_MEASURED_BYTES: number = 512 * 1024;
export const SOLID_TRIED_BYTES: number = 2 * 1024 * 1024;
export const SOLID_GAIN_MIN = 0.04;
export const SOLID_CORE_BYTES: number = 4 * 1024 * 1024;
export const SOLID_PAUSE_BYTES: number = 16 * 1024 * 1024;
export const SOLID_PAUSE_BYTES_MAX: number = 1024 * 1024 * 1024;
/** Parts that are compressed beside each other, by threads of the system. */
export const SOLID_AT_ONCE = 2;
/** Such chunks as have more than this share of their bytes as they are stored are left as they are. */
export const SOLID_STORED_SHARE_MAX = 0.9;
/** Packets or rows of most messages. */
export const TRANSFER_PACKET_BYTES = 4096;
/** Chunks of one complaint, those of all that wait for their turn, and how often one chunk may come with wrong bytes. */
export const TRANSFER_COMPLAINT_REFS_MAX = 64;
export const TRANSFER_COMPLAINTS_REFS_MAX = 4096;
export const TRANSFER_CHUNK_TRIES_MAX = 3;
/** What may come that was not lacking, or is wrong where no more can be complained about, beside as many bytes as the file has. */
export const TRANSFER_USELESS_BYTES_MAX: number = 64 * 1024 * 1024;
/** Messages of one channel that are verified and written at once. */
export const TRANSFER_PLACING_MAX = 8;
/** How often it is looked whether anything came of a transfer, and after how many looks without it is asked for again, at first. */
export const TRANSFER_LOOK_MS = 10_000;
export const TRANSFER_SILENT_LOOKS_MAX = 12;
/** Bulk channels that a client's transfer is begun over in one session, one after the other, of which none brought anything. */
export const TRANSFER_CHANNELS_FRUITLESS_MAX = 4;
/** Requests under one number of which none brought anything. */
export const TRANSFER_FRUITLESS_RUNS_MAX = 4;
/** A file that a root is brought into: chunks that are named and have not come, of which the oldest are forgotten and asked for at the end; */
export const FILE_LACKING_MAX: number = 128 * 1024;
/** places that were written, apart from each other, of which the shortest are forgotten; */
export const FILE_RANGES_MAX: number = 256 * 1024;
/** streams, and chunks that stand nowhere in it as a whole, those of 1 TiB; their bytes in its journal, and in memory; */
export const FILE_KEPT_CHUNKS_MAX: number = 64 * 1024;
export const FILE_KEPT_BYTES_MAX: number = 1024 * 1024 * 1024;
/** places that are noted together: so much comes once more at most when its process is killed, beside what was on its way; */
export const FILE_NOTED_BYTES: number = 512 * 1024;
export const FILE_KEPT_CACHE_BYTES: number = 2 * 1024 * 1024;
export const FILE_STREAMS_CACHED = 32;
/** chunks for which it is looked elsewhere at once, and those of them that are read at once; */
export const FILE_FILLED_CHUNKS: number = 16 * 1024;
export const FILE_READS_MAX = 16;
/** and what is written or read again in one go. */
export const FILE_WRITE_BYTES: number = 1024 * 1024;
export const FILE_WRITE_PIECES_MAX = 256;

/** An error as it travels: characters of its message and of each text in its data, entries of that, and causes below it. */
export const ERROR_CHARACTERS_MAX = 4096;
export const ERROR_DATA_CHARACTERS_MAX = 512;
export const ERROR_DATA_ENTRIES_MAX = 32;
export const ERROR_CAUSES_MAX = 4;
/** Depth of nesting and number of values in the metadata of a message. */
export const META_DEPTH_MAX = 32;
export const META_ITEMS_MAX: number = 16 * 1024;

// ── transfer and services ────────────────────────────────────────────────────────────────────────────────────────

/** Plain bytes of chunks in one message. */
export const BATCH_BYTES_MAX: number = 4 * 1024 * 1024;
/** Chunks that come along with a name: of a file that needs no more of them, and no more bytes. */
export const ALONG_BYTES_MAX: number = 64 * 1024;
export const ALONG_CHUNKS_MAX = 16;
/** So few bytes of chunks are sent without asking whether they are there, which takes as long. */
export const UNASKED_BYTES_MAX: number = 64 * 1024;
/** Refs in one request for chunks, and in one question for which are there. */
export const REFS_PER_REQUEST_MAX = 256;
export const REFS_PER_WANT_MAX = 4096;
/** Requests of one session for chunks, and of those that bring some, that are worked on at once; further ones wait. */
export const FILE_REQUESTS_AT_WORK_MAX = 16;
export const STORES_AT_WORK_MAX = 8;
/** Chunks that one peer is asked to send at a time, all readers together. */
export const FETCH_REFS_IN_FLIGHT_MAX = 768;
/** A peer that lies more often is not asked again for what else it said that it has. */
export const PEER_LIES_MAX = 3;
/** Requests for chunks that a reader keeps under way to one peer. */
export const FILE_REQUESTS_IN_FLIGHT = 3;
/** What a client may say that a hub is to wait for its nodes' verify or gc: a day. */
export const NODES_WAIT_MS_MAX = 86_400_000;
/** Puts that one peer may have open. */
export const PUTS_PER_LINK_MAX = 64;
/** What was stored in a put whose connection broke is safe from gc for so long: its client may come back. */
export const PUT_HELD_MS = 600_000;
/** What was fetched from peers is safe from gc for this long after the last fetch. */
export const CACHE_WRITER_IDLE_MS = 30_000;
/** Names in one answer to a listing, and UTF-16 units of them all. */
export const LIST_ENTRIES_MAX = 256;
export const LIST_CHARACTERS_MAX: number = 8 * 1024;
/** Lanes of one machine that it tells of at once, and how long a hub waits for what its nodes tell of theirs. */
export const LANES_LISTED_MAX = 1024;
export const LANES_WAIT_MS = 1_000;
/** Characters of a label that people give a node, and of one log or note that a node sends. */
export const LABEL_CHARACTERS_MAX = 128;
export const LOG_CHARACTERS_MAX: number = 16 * 1024;
/** Characters of logs and notes that a node may send at once, and in a second; and what a text counts for beside its own. */
export const LOG_BURST_CHARACTERS: number = 4 * 1024 * 1024;
export const LOG_CHARACTERS_PER_SECOND: number = 1024 * 1024;
export const LOG_TEXT_COST_CHARACTERS = 256;
/** and what is told of the calls of a kernel, beside its words. */
export const KERNEL_USE_CHARACTERS = 128;
/** How long a node may take to load a program: to fetch it and start an executor process. */
export const LOAD_TIMEOUT_MS = 30_000;
/** What computed the kernels of jobs, as JSON, in a list of jobs: half of what a message may have. */
export const JOBS_KERNELS_BYTES_MAX: number = 4 * 1024 * 1024;
/** Files that one job reads. */
export const JOB_FILES_MAX = 256;
/** A job whose client lost its connection goes on for so long, and its outcome is kept so long: the client may come back. */
export const JOB_ORPHAN_MS = 60_000;
/** Events of a job that are kept for a client that comes back, and how much memory they may take. */
export const JOB_EVENTS_KEPT = 256;
export const JOB_EVENTS_KEPT_BYTES: number = 1024 * 1024;
/** What ended jobs may take that are kept, all clients together: their events and outcomes; and how many of one client are. */
export const JOBS_KEPT_BYTES_MAX: number = 64 * 1024 * 1024;
export const JOBS_KEPT_PER_CLIENT_MAX = 256;
/** What an event counts for there beside its text, and an ended job beside its events and its outcome. */
export const JOB_EVENT_COST_BYTES = 256;
export const JOB_KEPT_COST_BYTES: number = 8 * 1024;
/** Results without names that are kept for one client; of the next one the oldest is freed. */
export const UNNAMED_RESULTS_MAX = 4096;
/** Programs that one client may have loaded. */
export const PROGRAMS_PER_LINK_MAX = 16;
/** Bytes of a job's value in one message. */
export const RESULT_PART_BYTES: number = 1024 * 1024;
/** How long a grant holds by which a client sends packets to a node itself, and when the client asks for the next one. */
export const GRANT_MS = 30_000;
export const GRANT_RENEW_MS = 10_000;
/** By so much a node's clock may be behind its hub's. */
export const GRANT_SKEW_MS = 5_000;
/** What one grant allows: packets unanswered at a time, of all that are granted for an executor and at least, and packets and bytes of input in all. */
export const GRANT_UNANSWERED_MAX = 16_384;
export const GRANT_UNANSWERED_MIN = 256;
export const GRANT_PACKETS_MAX: number = 16 * 1024 * 1024;
export const GRANT_INPUT_BYTES_MAX: number = 64 * 1024 * 1024 * 1024;
/** Nodes that one answer of a hub grants. */
export const GRANTS_PER_ANSWER_MAX = 64;
/** Grants of one client that a node keeps in mind. */
export const GRANTS_PER_CLIENT_MAX = 1024;
/** Packets that read more each go through the hub where there are several nodes: it knows who has the bytes. */
export const DIRECT_INPUT_BYTES_MAX: number = 64 * 1024;
/** Packets that a client sends one node at a time, so that the next ones may go to another. */
export const DIRECT_PIECE_PACKETS_MAX = 1024;
/** Frames whose memory a lane under a grant keeps for the next ones. */
export const DIRECT_SPARE_FRAMES_MAX = 16;
/** How long a read waits for a session with another node before it asks somebody else. */
export const PEER_DIAL_MS = 1_000;
/** A node that could not be reached is not tried again for this long. */
export const PEER_RETRY_MS = 10_000;
