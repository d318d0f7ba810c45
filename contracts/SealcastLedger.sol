// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

/// @title The Sealcast ledger
/// @notice An append-only list of entries: which devices exist, what keys they use, which groups there are, who is in
/// them, and in what order each group's keys were changed. Every entry is signed (ECDSA P-256 over SHA-256) by its
/// originator: the root, the CA, the operator or a device. Anyone may submit a signed entry, so a device needs neither
/// an account nor gas, and msg.sender means nothing here.
///
/// Trust. This contract checks who may say what, and fixes an order. It holds no secret and sees no group key. Whoever
/// executes it is not trusted either: each client verifies every signature and the head chain itself, from the `Entry`
/// events, by the same rules as below. The two must agree on every entry, which is why this contract refuses whatever
/// a client could read in more than one way: non-canonical ABI, malformed UTF-8, keys off the curve.
///
/// There is no owner, no upgrade, no pause, no payable function and no call to another contract but the precompiles.
///
/// A ledger can move to another network. The operator's entry `_moved` is then its last one, and a successor goes on where
/// it ended: the same contract, which takes all entries of the first ledger and of all that followed it (`replay`), checks
/// each as it was checked before, and has the same heads. What the first ledger is called stays the name of all of them:
/// the numbers of devices and the first head come from it.
contract SealcastLedger {
    // ---------------------------------------------------------------------------------------------------- kinds

    uint8 private constant DEVICE_REGISTERED = 1;
    uint8 private constant DEVICE_REVOKED = 2;
    uint8 private constant KEYS_PUBLISHED = 3;
    uint8 private constant GROUP_CREATED = 4;
    uint8 private constant GRANTED = 5;
    uint8 private constant REVOKED = 6;
    uint8 private constant COMMIT = 7;
    uint8 private constant READING = 8;
    uint8 private constant ANCHOR = 9;
    uint8 private constant GROUP_RESET = 10;
    uint8 private constant LIMITS_SET = 11;
    uint8 private constant FAULT_REPORTED = 12;
    uint8 private constant KEY_ROTATED = 13;
    uint8 private constant MOVED = 14;

    // -------------------------------------------------------------------------------- verdicts, see `ReadingJudged`

    uint8 private constant ACCEPTED = 0;
    /// The topic's limits name who may report, and not this device.
    uint8 private constant NOT_A_REPORTER = 1;
    /// The sequence number is not greater than the device's last.
    uint8 private constant SEQUENCE_NOT_GREATER = 2;
    /// The limits want every sequence number, and this one skips some.
    uint8 private constant SEQUENCE_GAP = 3;
    /// The value has digits beyond the decimals of the limits.
    uint8 private constant TOO_PRECISE = 4;
    uint8 private constant BELOW_MIN = 5;
    uint8 private constant ABOVE_MAX = 6;
    /// Too far from the device's last accepted value.
    uint8 private constant STEP_TOO_LARGE = 7;

    // --------------------------------------------------------------------------------------------------- limits

    uint256 private constant MAX_BODY = 96 * 1024;
    uint256 private constant MAX_NAME = 64;
    uint256 private constant MAX_REASON = 256;
    uint256 private constant MAX_SERIAL = 32;
    uint256 private constant MAX_FILTERS = 16;
    uint256 private constant MAX_FILTER = 256;
    uint256 private constant MAX_TOPIC = 1024;
    /// A signed 128-bit number has at most 39 decimal digits: more than 38 after the point say nothing.
    uint256 private constant MAX_DECIMALS = 38;
    uint256 private constant MAX_UNIT = 32;
    uint256 private constant MAX_REPORTERS = 64;
    /// Seconds for which a report of a fault counts.
    uint256 private constant REPORT_LIFE = 7200;
    /// Places of `everGranted` that a grant looks at.
    uint256 private constant FORGET_PLACES = 8;
    /// A grant that was taken back. Never `revocations + 1`, and not the 0 of a device that was never granted.
    uint256 private constant REVOKED_GRANT = type(uint256).max;

    // -------------------------------------------------------------------------------------------------- refusals

    /// P256VERIFY (EIP-7951) does not work at 0x100 on this network. It exists from the Osaka upgrade on.
    error P256Unavailable();
    /// The network's chain id does not fit 64 bits, so that clients could not name this ledger.
    error ChainIdTooLarge(uint256 chainId);
    /// The block's time is before that of the last entry.
    error ClockWentBack(uint64 last, uint256 blockTime);

    /// The gas does not suffice for `submitMany` beyond this position.
    error OutOfGas(uint256 position);

    /// The next entry is for the contract that is named here: the ledger has moved there, or it is still there because not
    /// all its entries were replayed here.
    error NotHere(uint64 chainId, address ledger);
    /// Nobody else may replay entries here; zero: nobody may, as the contract succeeds no other, or has all entries.
    error MayNotReplay(address replayer);

    error UnknownKind(uint8 kind);
    /// The body is not the canonical `abi.encode` of its fields. (A body that is no ABI at all reverts without data.)
    error BadBody(uint8 kind);
    error BadLength(string field, uint256 length, uint256 min, uint256 max);
    /// Not a permitted character (or not UTF-8) at this byte.
    error BadText(string field, uint256 position);
    error BadValue(string field, uint256 value, uint256 min, uint256 max);
    /// Not a point of P-256.
    error BadPublicKey();
    /// A wildcard is misplaced at this byte of the filter.
    error BadFilter(string filter, uint256 position);
    /// Topics that begin with `$`, and those below `sealcast`, belong to no group.
    error ReservedFilter(string filter);
    error ReservedName(string name);
    /// The new key has not signed that it takes over, see `takeoverOf`.
    error BadProof();
    /// The new key is that of a built-in originator already.
    error KeyInUse(address originator);

    /// `expected` is the originator's next nonce.
    error BadNonce(uint64 expected, uint64 got);
    error BadSignature();
    error NotAuthorized(uint8 kind, address originator);
    error UnknownDevice(address device);
    error NotActive(address device);
    error AlreadyRevoked(address device);
    /// Another name has the same number.
    error NumberTaken(address device, string name);
    error WrongCertificate(bytes32 expected, bytes32 got);
    /// A key package is used once.
    error KeyPackageTaken(bytes32 keyPackage, address device);

    error UnknownGroup(uint16 group);
    error TooManyGroups();
    error NameTaken(string name, uint16 group);
    error FilterTaken(string filter, uint16 group);
    error AlreadyGranted(uint16 group, address device);
    error NotGranted(uint16 group, address device);
    error WrongEpoch(uint32 expectedGeneration, uint64 expectedEpoch, uint32 gotGeneration, uint64 gotEpoch);
    /// No value is in such a range.
    error BadRange(int128 min, int128 max);
    /// None of the group's filters matches the topic.
    error TopicOutside(uint16 group, string topic);
    /// Readings are verified before they are written, and there is nothing to verify this one by.
    error NoLimits(uint16 group, string topic);

    // ---------------------------------------------------------------------------------------------------- events

    /// One per entry: all that a client needs to verify it. `head` is the head with this entry in it.
    event Entry(
        uint64 indexed index,
        address indexed originator,
        uint8 indexed kind,
        uint64 nonce,
        uint64 time,
        bytes body,
        bytes signature,
        bytes32 head
    );

    /// One per reading, before its `Entry`: whether it was accepted (0) or why not. It follows from the entries alone,
    /// so that clients compute it themselves.
    event ReadingJudged(uint64 indexed index, address indexed device, uint8 indexed verdict);

    /// What stood at this position of `submitMany` was not taken, for this error of `submit`.
    event Refused(uint256 indexed position, bytes refusal);

    // ----------------------------------------------------------------------------------------------------- state

    /// A contract on a network.
    struct Place {
        uint64 chainId;
        address ledger;
    }

    struct Predecessor {
        uint64 chainId;
        address ledger;
        uint64 height;
        bytes32 head;
    }

    /// The parameters of `submit`.
    struct Submission {
        uint8 kind;
        address originator;
        uint64 nonce;
        bytes body;
        bytes signature;
    }

    struct Key {
        bytes32 x;
        bytes32 y;
    }

    struct Device {
        string name;
        Key key;
        bytes32 certificate; // SHA-256 of the DER
        uint64 notAfter; // seconds since 1970; not enforced here, certificates are checked by those who use them
        bool active;
        uint32 revocations; // how often its grants became void: by a revocation, or by another key
    }

    struct Group {
        string name;
        address owner; // who created it: the operator; zero: there is no such group
        uint32 generation;
        uint64 epoch;
        uint32 epochMaxAge;
        uint32 epochMaxMessages;
        uint16 retention;
        uint8 authenticity;
        uint32 ledgerMaxAge;
    }

    /// What readings of one topic must keep to. Numbers are in units of `10^-decimals`.
    struct Limits {
        int128 min;
        int128 max;
        uint128 maxStep; // from the device's last accepted value; 0: any
        uint64 version; // how often they were set; 0: never
        uint8 decimals;
        bool gapless; // sequence numbers without gaps; else they only have to grow
        bool listed; // only the listed devices may report; else all that are granted
        string unit;
    }

    /// One device's readings of one topic.
    struct Stream {
        uint64 accepted;
        uint64 refused;
        uint64 sequence; // the greatest so far under these limits, accepted or not
        uint64 version; // of the limits that `sequence` and `value` are from: set anew, they begin anew
        bool measured; // whether there is a `value`
        int128 value; // the last accepted, in the limits' decimals
    }

    /// The last fault that a device reported of a group.
    struct Report {
        address author; // of the commit that it reported
        uint32 generation;
        uint48 time; // seconds since 1970
        bool keptOut;
    }

    struct Counts {
        uint64 accepted;
        uint64 refused;
    }

    /// SHA-256 chain over all entries; begins with the ledger's identity and built-in keys.
    bytes32 public head;
    /// Number of entries, which is also the index of the next.
    uint64 public height;
    /// Time of the last entry, seconds since 1970.
    uint64 public lastTime;
    /// Groups are numbered from 1 to this.
    uint16 public groupCount;

    /// What the next entry is signed for. This contract takes it if it is this contract.
    Place public current;
    /// The contract before this one, and how many entries were replayed with what head. Zero if there is none, or not yet all
    /// of them were.
    Predecessor public predecessor;
    /// Who may replay entries, until all were; zero: nobody.
    address public replayer;

    /// The first keys, which the first head is made from: root, CA, operator, x || y each.
    bytes public genesisKeys;

    /// The ledger's name for good: the contract that its first entry was written to. Most often this one.
    Place public first;
    /// The numbers of the built-in originators, and the block to look for events from.
    address public immutable root;
    address public immutable ca;
    address public immutable operator;
    uint64 public immutable deployedAt;

    /// The originator's next nonce. Never goes back, whatever happens to its keys.
    mapping(address originator => uint64) public nonceOf;
    /// The device that published this key package (SHA-256 of the KeyPackage message); zero if none.
    mapping(bytes32 keyPackage => address) public keyPackageOwner;

    mapping(address originator => Key) private builtIn; // the current keys of root, ca and operator
    mapping(address => Device) private devices;
    mapping(uint16 => Group) private groups;
    mapping(uint16 => mapping(address => uint256)) private grants; // device.revocations + 1; 0: never; or REVOKED_GRANT
    mapping(uint16 => address[]) private everGranted; // each device once, if it has an entry in `grants`
    mapping(uint16 => uint256) private looked; // the place in `everGranted` that is looked at next
    mapping(uint16 => mapping(uint32 generation => mapping(uint64 epoch => address))) private authors; // of commits
    mapping(uint16 => mapping(address => Report)) private reports;
    mapping(bytes32 => uint16) private groupByName; // keccak256(name)
    mapping(bytes32 => uint16) private groupByFilter; // keccak256(filter)
    mapping(uint16 => string[]) private filtersOf;
    mapping(bytes32 => Limits) private limits; // by `_topicKey`, as are the next two
    mapping(bytes32 => mapping(address => uint64)) private listedIn; // the version of the limits that lists the device
    mapping(bytes32 => mapping(address => Stream)) private streams;
    mapping(address => Counts) private counts;

    // ------------------------------------------------------------------------------------------------ deployment

    /// @param rootKey the root CA's public key, x || y, which never changes
    /// @param caKey the issuing CA's first public key, x || y
    /// @param operatorKey the operator's first public key, x || y
    /// @param chainId the network of the ledger that this contract succeeds: of the first one, if it has moved before; 0 if
    /// this is a new ledger
    /// @param ledger the address of that ledger's contract; 0 if this is a new ledger
    constructor(
        bytes memory rootKey,
        bytes memory caKey,
        bytes memory operatorKey,
        uint64 chainId,
        address ledger
    ) {
        if (block.chainid > type(uint64).max) revert ChainIdTooLarge(block.chainid);
        if (!_p256Works()) revert P256Unavailable();
        if (ledger != address(0)) replayer = msg.sender;
        else (chainId, ledger) = (uint64(block.chainid), address(this));
        first = current = Place(chainId, ledger);
        root = _number("root");
        ca = _number("ca");
        operator = _number("operator");
        deployedAt = uint64(block.number);
        builtIn[root] = _publicKey(rootKey);
        builtIn[ca] = _publicKey(caKey);
        builtIn[operator] = _publicKey(operatorKey);
        genesisKeys = abi.encodePacked(rootKey, caKey, operatorKey);
        head = sha256(abi.encodePacked("sealcast-genesis-v2", chainId, ledger, genesisKeys));
    }

    // ------------------------------------------------------------------------------------------------ submission

    /// @notice Appends the entries that it takes, in this order, and passes over those that it refuses, each with
    /// `Refused`. Entries of any originators, and each by itself, as if each had a transaction of its own: what one device
    /// signs must not keep another's entry out, and an entry that somebody else submitted first costs the others nothing.
    /// Those of the same originator behind a refused one are refused for their nonce.
    ///
    /// Reverts as a whole when the gas does not suffice. An entry that ran out of it was not refused, and must not be told
    /// so; and who estimates the gas must not find that little is enough.
    function submitMany(Submission[] calldata entries) external {
        for (uint256 i = 0; i < entries.length; i++) {
            Submission calldata e = entries[i];
            uint256 gasBefore = gasleft();
            try this.submit(e.kind, e.originator, e.nonce, e.body, e.signature) {}
            catch (bytes memory refusal) {
                // Any call gets 63/64 of the gas. Where it or one inside it ran out, hardly more than the rest is left.
                if (gasleft() < gasBefore / 32) revert OutOfGas(i);
                emit Refused(i, refusal);
            }
        }
    }

    /// @notice Appends an entry, or reverts and changes nothing.
    /// @param originator the number of who signed it: that of "root", "ca", "operator" (`numberOf`) or a device
    /// @param nonce must be `nonceOf(originator)`
    /// @param body `abi.encode` of the kind's fields, see the function named after the kind
    /// @param signature r || s over SHA-256 of the preimage, see `digestOf`
    function submit(uint8 kind, address originator, uint64 nonce, bytes calldata body, bytes calldata signature)
        external
    {
        if (!_isHere(current)) revert NotHere(current.chainId, current.ledger);
        _append(kind, originator, nonce, body, signature, block.timestamp);
    }

    /// @notice Appends entries of the ledger that this contract succeeds, in their order, each with the time that its block
    /// had. All of them, or none. The entry by which the operator moves the ledger here is the last one; `submit` takes
    /// entries from then on.
    ///
    /// Each entry is checked as any other, but neither times nor the order among originators are signed. So what is replayed
    /// is the same history only if the heads are the same, which every client checks; and whoever could replay here could
    /// spoil this contract, which the ledger may have moved to by then. Hence only the deployer may, who gains nothing by
    /// it.
    function replay(Submission[] calldata entries, uint64[] calldata times) external {
        for (uint256 i = 0; i < entries.length; i++) {
            if (msg.sender != replayer) revert MayNotReplay(replayer);
            Submission calldata e = entries[i];
            _append(e.kind, e.originator, e.nonce, e.body, e.signature, times[i]);
        }
    }

    /// The time is in seconds since 1970, and fits 64 bits.
    function _append(
        uint8 kind,
        address originator,
        uint64 nonce,
        bytes calldata body,
        bytes calldata signature,
        uint256 time
    ) private {
        if (body.length > MAX_BODY) revert BadLength("body", body.length, 0, MAX_BODY);
        if (signature.length != 64) revert BadLength("signature", signature.length, 64, 64);
        if (time < lastTime) revert ClockWentBack(lastTime, time);

        Key memory key = _keyOf(originator);
        if (nonce != nonceOf[originator]) revert BadNonce(nonceOf[originator], nonce);
        bytes32 digest = digestOf(kind, originator, nonce, body);
        if (!_verify(digest, bytes32(signature[:32]), bytes32(signature[32:]), key)) {
            // Empty output means either a bad signature or no precompile: tell them apart.
            if (!_p256Works()) revert P256Unavailable();
            revert BadSignature();
        }
        nonceOf[originator] = nonce + 1;

        if (kind == DEVICE_REGISTERED) _deviceRegistered(originator, body);
        else if (kind == DEVICE_REVOKED) _deviceRevoked(originator, body);
        else if (kind == KEYS_PUBLISHED) _keysPublished(originator, body);
        else if (kind == GROUP_CREATED) _groupCreated(originator, body);
        else if (kind == GRANTED) _granted(originator, body);
        else if (kind == REVOKED) _revoked(originator, body);
        else if (kind == COMMIT) _commit(originator, body);
        else if (kind == READING) _reading(originator, body);
        else if (kind == ANCHOR) _anchor(originator, body);
        else if (kind == GROUP_RESET) _groupReset(originator, body);
        else if (kind == LIMITS_SET) _limitsSet(originator, body);
        else if (kind == FAULT_REPORTED) _faultReported(originator, body, time);
        else if (kind == KEY_ROTATED) _keyRotated(originator, body);
        else if (kind != MOVED) revert UnknownKind(kind);

        uint64 index = height;
        bytes32 next = sha256(abi.encodePacked(head, index, uint64(time), digest));
        head = next;
        height = index + 1;
        lastTime = uint64(time);
        if (kind == MOVED) _moved(originator, body);
        emit Entry(index, originator, kind, nonce, uint64(time), body, signature, next);
    }

    // ---------------------------------------------------------------------------- the kinds, one function for each
    // Each decodes its body, checks the fields, then the originator's right and the state, then writes.

    /// By the CA: a new device, or a new key or certificate for one that exists. Makes a revoked device active again,
    /// but does not give back what it was granted. With another key all its grants are void: they were given to whoever
    /// holds the old one, and else the CA alone could make a member by registering a granted name with a key of its own.
    function _deviceRegistered(address originator, bytes calldata body) private {
        (string memory name, bytes memory publicKey, bytes32 certificate, bytes memory serial, uint64 notAfter) =
            abi.decode(body, (string, bytes, bytes32, bytes, uint64));
        _requireCanonical(DEVICE_REGISTERED, body, abi.encode(name, publicKey, certificate, serial, notAfter));
        _requireName("device", name);
        if (_equal(name, "root") || _equal(name, "ca") || _equal(name, "operator") || _equal(name, "hub")) {
            revert ReservedName(name);
        }
        Key memory key = _publicKey(publicKey);
        _requireLength("serial", serial.length, 1, MAX_SERIAL);
        if (originator != ca) revert NotAuthorized(DEVICE_REGISTERED, originator);

        address number = _number(name);
        Device storage d = devices[number];
        if (!_exists(d)) d.name = name;
        else if (!_equal(d.name, name)) revert NumberTaken(number, d.name);
        else if (d.key.x != key.x || d.key.y != key.y) d.revocations += 1;
        d.key = key;
        d.certificate = certificate;
        d.notAfter = notAfter;
        d.active = true;
    }

    /// By the CA or the operator: the device may do nothing any more, and all its grants are void.
    function _deviceRevoked(address originator, bytes calldata body) private {
        (address number, string memory reason) = abi.decode(body, (address, string));
        _requireCanonical(DEVICE_REVOKED, body, abi.encode(number, reason));
        _requireReason(reason);
        if (originator != ca && originator != operator) revert NotAuthorized(DEVICE_REVOKED, originator);

        Device storage d = _known(number);
        if (!d.active) revert AlreadyRevoked(number);
        d.active = false;
        d.revocations += 1;
    }

    /// By a device: a key package that others may add it to a group with. `rejoin`: it has lost its group state.
    function _keysPublished(address originator, bytes calldata body) private {
        (bytes32 keyPackage, bytes32 certificate, bool rejoin) = abi.decode(body, (bytes32, bytes32, bool));
        _requireCanonical(KEYS_PUBLISHED, body, abi.encode(keyPackage, certificate, rejoin));
        _requireDevice(KEYS_PUBLISHED, originator);

        bytes32 expected = devices[originator].certificate;
        if (certificate != expected) revert WrongCertificate(expected, certificate);
        address taken = keyPackageOwner[keyPackage];
        if (taken != address(0)) revert KeyPackageTaken(keyPackage, taken);
        keyPackageOwner[keyPackage] = originator;
    }

    /// By the operator, who is the group's owner. By nobody else: a group takes the topics of its filters, so a device
    /// that could make one could direct to itself what others publish there.
    function _groupCreated(address originator, bytes calldata body) private {
        (
            string memory name,
            string[] memory filters,
            uint32 epochMaxAge,
            uint32 epochMaxMessages,
            uint16 retention,
            uint8 authenticity,
            uint32 ledgerMaxAge
        ) = abi.decode(body, (string, string[], uint32, uint32, uint16, uint8, uint32));
        _requireCanonical(
            GROUP_CREATED,
            body,
            abi.encode(name, filters, epochMaxAge, epochMaxMessages, retention, authenticity, ledgerMaxAge)
        );
        _requireName("group", name);
        _requireLength("filters", filters.length, 1, MAX_FILTERS);
        for (uint256 i = 0; i < filters.length; i++) _requireFilter(filters[i]);
        if (authenticity > 1) revert BadValue("authenticity", authenticity, 0, 1);
        _requireOperator(GROUP_CREATED, originator);

        uint16 number = groupByName[keccak256(bytes(name))];
        if (number != 0) revert NameTaken(name, number);
        if (groupCount == type(uint16).max) revert TooManyGroups();
        number = groupCount + 1;
        for (uint256 i = 0; i < filters.length; i++) {
            bytes32 filter = keccak256(bytes(filters[i]));
            if (groupByFilter[filter] != 0) revert FilterTaken(filters[i], groupByFilter[filter]);
            groupByFilter[filter] = number;
            filtersOf[number].push(filters[i]);
        }
        groupByName[keccak256(bytes(name))] = number;
        groupCount = number;
        Group storage g = groups[number];
        g.name = name;
        g.owner = originator;
        g.epochMaxAge = epochMaxAge;
        g.epochMaxMessages = epochMaxMessages;
        g.retention = retention;
        g.authenticity = authenticity;
        g.ledgerMaxAge = ledgerMaxAge;
    }

    /// By the group's owner: the device may be a member.
    function _granted(address originator, bytes calldata body) private {
        (uint16 number, address member) = abi.decode(body, (uint16, address));
        _requireCanonical(GRANTED, body, abi.encode(number, member));
        _requireOwner(GRANTED, number, originator);

        Device storage d = _activeDevice(member);
        if (granted(number, member)) revert AlreadyGranted(number, member);
        _forgetSome(number);
        if (grants[number][member] == 0) everGranted[number].push(member);
        grants[number][member] = uint256(d.revocations) + 1;
    }

    /// Each report looks at everybody in `everGranted`, so those that are granted no more go out of it. A device loses the
    /// grants of all groups at once when it is revoked or gets another key, and nobody looks for it there and then. Each
    /// grant looks at some places, so the list stays about as long as there are members.
    function _forgetSome(uint16 number) private {
        address[] storage all = everGranted[number];
        uint256 place = looked[number];
        for (uint256 n = 0; n < FORGET_PLACES && all.length > 0; n++) {
            if (place >= all.length) place = 0;
            address member = all[place];
            if (granted(number, member)) {
                place++;
                continue;
            }
            delete grants[number][member];
            all[place] = all[all.length - 1];
            all.pop();
        }
        looked[number] = place;
    }

    /// By the group's owner: the device may no longer be a member.
    function _revoked(address originator, bytes calldata body) private {
        (uint16 number, address member, string memory reason) = abi.decode(body, (uint16, address, string));
        _requireCanonical(REVOKED, body, abi.encode(number, member, reason));
        _requireReason(reason);
        _requireOwner(REVOKED, number, originator);

        if (!granted(number, member)) revert NotGranted(number, member);
        grants[number][member] = REVOKED_GRANT;
    }

    /// By a member: the one MLS commit that ends this epoch. The first to come is it, all others are refused. What is
    /// in it is for the members to judge.
    function _commit(address originator, bytes calldata body) private {
        (uint16 number, uint32 generation, uint64 epoch, bytes memory commit) =
            abi.decode(body, (uint16, uint32, uint64, bytes));
        _requireCanonical(COMMIT, body, abi.encode(number, generation, epoch, commit));
        _requireLength("commit", commit.length, 1, MAX_BODY);
        _requireMember(COMMIT, number, originator);

        Group storage g = groups[number];
        if (generation != g.generation || epoch != g.epoch) {
            revert WrongEpoch(g.generation, g.epoch, generation, epoch);
        }
        g.epoch = epoch + 1;
        authors[number][generation][epoch] = originator;
    }

    /// By a member: one value, `value / 10^decimals`. A reading that breaks the topic's limits is taken all the same, so
    /// that nobody can hide that it was said: it is judged and counted, and leaves the last accepted value as it is.
    /// Without limits for the topic a reading is no entry.
    function _reading(address originator, bytes calldata body) private {
        (uint16 number, string memory topic, uint64 timeMs, uint64 sequence, int128 value, uint8 decimals) =
            abi.decode(body, (uint16, string, uint64, uint64, int128, uint8));
        _requireCanonical(READING, body, abi.encode(number, topic, timeMs, sequence, value, decimals));
        _requireTopic(topic);
        if (decimals > MAX_DECIMALS) revert BadValue("decimals", decimals, 0, MAX_DECIMALS);
        _requireMember(READING, number, originator);

        bytes32 key = _topicKey(number, topic);
        if (limits[key].version == 0) revert NoLimits(number, topic);
        uint8 verdict = _judge(key, originator, sequence, value, decimals);
        Stream storage s = streams[key][originator];
        if (verdict == ACCEPTED) {
            s.accepted += 1;
            counts[originator].accepted += 1;
        } else {
            s.refused += 1;
            counts[originator].refused += 1;
        }
        emit ReadingJudged(height, originator, verdict);
    }

    /// Judges a reading and moves the device's sequence, and its last value if the reading is accepted.
    function _judge(bytes32 key, address originator, uint64 sequence, int128 value, uint8 decimals)
        private
        returns (uint8)
    {
        Limits storage l = limits[key];
        Stream storage s = streams[key][originator];
        if (l.listed && listedIn[key][originator] != l.version) return NOT_A_REPORTER;

        if (s.version != l.version) {
            s.version = l.version;
            s.sequence = sequence;
            s.measured = false;
        } else {
            if (sequence <= s.sequence) return SEQUENCE_NOT_GREATER;
            bool gap = l.gapless && sequence != s.sequence + 1;
            s.sequence = sequence; // after a gap too: it is told once, and what follows it is judged by itself
            if (gap) return SEQUENCE_GAP;
        }

        // 2^127 * 10^38 fits 256 bits.
        int256 scaled = value;
        if (decimals <= l.decimals) {
            scaled *= int256(10 ** uint256(l.decimals - decimals));
        } else {
            int256 unit = int256(10 ** uint256(decimals - l.decimals));
            if (scaled % unit != 0) return TOO_PRECISE;
            scaled /= unit;
        }
        if (scaled < l.min) return BELOW_MIN;
        if (scaled > l.max) return ABOVE_MAX;
        if (s.measured && l.maxStep != 0) {
            int256 step = scaled > s.value ? scaled - s.value : s.value - scaled;
            if (uint256(step) > l.maxStep) return STEP_TOO_LARGE;
        }
        s.measured = true;
        s.value = int128(scaled);
        return ACCEPTED;
    }

    /// By a member: the Merkle root of the digests of `count` messages.
    function _anchor(address originator, bytes calldata body) private view {
        (uint16 number, bytes32 merkleRoot, uint32 count) = abi.decode(body, (uint16, bytes32, uint32));
        _requireCanonical(ANCHOR, body, abi.encode(number, merkleRoot, count));
        if (count == 0) revert BadValue("count", count, 1, type(uint32).max);
        _requireMember(ANCHOR, number, originator);
    }

    /// By the group's owner: the group's keys are given up, and its members start again at epoch 0.
    function _groupReset(address originator, bytes calldata body) private {
        (uint16 number, string memory reason) = abi.decode(body, (uint16, string));
        _requireCanonical(GROUP_RESET, body, abi.encode(number, reason));
        _requireReason(reason);
        _requireOwner(GROUP_RESET, number, originator);

        _foundAnew(number);
    }

    function _foundAnew(uint16 number) private {
        groups[number].generation += 1;
        groups[number].epoch = 0;
    }

    /// By a member: it cannot follow the commit that ended this epoch; or, `keptOut`, the group has left it without keys
    /// since that commit. Either way it asks to be added again.
    ///
    /// When more than half of the members say so of one author, and have said it of nobody else since, the group is
    /// founded anew. If more than half could not follow its commits, the author is out. What keeps a device out may be
    /// the network: for that alone nobody loses its grant.
    function _faultReported(address originator, bytes calldata body, uint256 time) private {
        (uint16 number, uint32 generation, uint64 epoch, bool keptOut) =
            abi.decode(body, (uint16, uint32, uint64, bool));
        _requireCanonical(FAULT_REPORTED, body, abi.encode(number, generation, epoch, keptOut));
        _requireMember(FAULT_REPORTED, number, originator);

        Group storage g = groups[number];
        if (generation != g.generation || epoch >= g.epoch) {
            revert WrongEpoch(g.generation, g.epoch, generation, epoch);
        }
        address author = authors[number][generation][epoch];
        reports[number][originator] = Report(author, generation, uint48(time), keptOut);

        (uint256 members, uint256 say, uint256 blame) = (0, 0, 0);
        address[] storage all = everGranted[number];
        for (uint256 i = 0; i < all.length; i++) {
            if (!granted(number, all[i])) continue;
            members++;
            Report memory r = reports[number][all[i]];
            if (r.author != author || r.generation != generation || r.time + REPORT_LIFE < time) continue;
            say++;
            if (!r.keptOut) blame++;
        }
        if (blame * 2 > members) grants[number][author] = REVOKED_GRANT;
        if (say * 2 > members) _foundAnew(number);
    }

    /// By the group's owner: what readings of this topic must keep to, from the next entry on. Replaces what was
    /// said before, and lets each device begin anew: neither its last value nor its last sequence number counts.
    function _limitsSet(address originator, bytes calldata body) private {
        (
            uint16 number,
            string memory topic,
            int128 min,
            int128 max,
            uint128 maxStep,
            uint8 decimals,
            string memory unit,
            bool gapless,
            bool listed,
            address[] memory reporters
        ) = abi.decode(body, (uint16, string, int128, int128, uint128, uint8, string, bool, bool, address[]));
        _requireCanonical(
            LIMITS_SET,
            body,
            abi.encode(number, topic, min, max, maxStep, decimals, unit, gapless, listed, reporters)
        );
        _requireTopic(topic);
        if (min > max) revert BadRange(min, max);
        if (decimals > MAX_DECIMALS) revert BadValue("decimals", decimals, 0, MAX_DECIMALS);
        _requireText("unit", unit, 0, MAX_UNIT);
        _requireLength("reporters", reporters.length, 0, listed ? MAX_REPORTERS : 0);
        _requireOwner(LIMITS_SET, number, originator);
        if (!_covers(number, bytes(topic))) revert TopicOutside(number, topic);

        bytes32 key = _topicKey(number, topic);
        uint64 version = limits[key].version + 1;
        for (uint256 i = 0; i < reporters.length; i++) {
            _known(reporters[i]);
            listedIn[key][reporters[i]] = version;
        }
        limits[key] = Limits(min, max, maxStep, version, decimals, gapless, listed, unit);
    }

    /// By the operator, for itself; or by the root, for the CA: another key from the next entry on. The new key signs
    /// too, so that it is nobody else's. The number, its nonce, and what it said before stay. The operator's key is not
    /// for the root to give: it could make itself the operator, and with the CA's key any device a member.
    function _keyRotated(address originator, bytes calldata body) private {
        (address whose, bytes memory publicKey, bytes memory proof) = abi.decode(body, (address, bytes, bytes));
        _requireCanonical(KEY_ROTATED, body, abi.encode(whose, publicKey, proof));
        Key memory key = _publicKey(publicKey);
        _requireLength("proof", proof.length, 64, 64);
        if (whose != (originator == root ? ca : operator) || (originator != root && originator != operator)) {
            revert NotAuthorized(KEY_ROTATED, originator);
        }
        _requireUnused(root, key);
        _requireUnused(ca, key);
        _requireUnused(operator, key);
        (bytes32 r, bytes32 s) = abi.decode(proof, (bytes32, bytes32));
        if (!_verify(takeoverOf(whose, publicKey), r, s, key)) revert BadProof();

        builtIn[whose] = key;
    }

    /// By the operator: from the next entry on the ledger is at that contract, and this one takes no more, if it is not the
    /// one. Called when the entry is counted, as it is the last of those that were replayed.
    function _moved(address originator, bytes calldata body) private {
        (uint64 chainId, address ledger) = abi.decode(body, (uint64, address));
        _requireCanonical(MOVED, body, abi.encode(chainId, ledger));
        _requireOperator(MOVED, originator);

        Place memory to = Place(chainId, ledger);
        if (replayer != address(0) && _isHere(to)) {
            predecessor = Predecessor(current.chainId, current.ledger, height, head);
            replayer = address(0);
        }
        current = to;
    }

    // ----------------------------------------------------------------------------------------------------- views

    /// The number of a device, of "root", of "ca" or of "operator" on this ledger. A name keeps it when its key changes, and
    /// when the ledger moves.
    function numberOf(string calldata name) external view returns (address) {
        return _number(name);
    }

    /// What an originator signs is the preimage of this hash.
    function digestOf(uint8 kind, address originator, uint64 nonce, bytes calldata body)
        public
        view
        returns (bytes32)
    {
        return sha256(
            abi.encodePacked("sealcast-entry-v1", current.chainId, current.ledger, kind, originator, nonce, body)
        );
    }

    /// What the new key of a built-in originator signs is the preimage of this hash.
    function takeoverOf(address whose, bytes memory publicKey) public view returns (bytes32) {
        return sha256(
            abi.encodePacked("sealcast-takeover-v1", first.chainId, first.ledger, whose, publicKey)
        );
    }

    /// The key that verifies the originator's next entry, x || y. Reverts for a device that is unknown or revoked.
    function keyOf(address originator) external view returns (bytes memory) {
        Key memory key = _keyOf(originator);
        return abi.encodePacked(key.x, key.y);
    }

    /// Reverts if there is no such device. `publicKey` is x || y, `certificate` the SHA-256 of the DER, `notAfter` in
    /// seconds since 1970.
    function device(address number)
        external
        view
        returns (string memory name, bytes memory publicKey, bytes32 certificate, uint64 notAfter, bool active)
    {
        Device storage d = _known(number);
        return (d.name, abi.encodePacked(d.key.x, d.key.y), d.certificate, d.notAfter, d.active);
    }

    /// Reverts if there is no such group.
    function group(uint16 number) external view returns (Group memory) {
        _requireGroup(number);
        return groups[number];
    }

    /// The number of the group of this name; 0 if none.
    function groupNamed(string calldata name) external view returns (uint16) {
        return groupByName[keccak256(bytes(name))];
    }

    /// Where the group's next commit must be made. Reverts if there is no such group.
    function epochOf(uint16 number) external view returns (uint32 generation, uint64 epoch) {
        _requireGroup(number);
        return (groups[number].generation, groups[number].epoch);
    }

    /// Whether the device may be a member of the group: granted, and not revoked since.
    function granted(uint16 number, address member) public view returns (bool) {
        return devices[member].active && grants[number][member] == uint256(devices[member].revocations) + 1;
    }

    /// What readings of the topic must keep to. Reverts if that was never said.
    function limitsOf(uint16 number, string calldata topic) external view returns (Limits memory) {
        Limits storage l = limits[_topicKey(number, topic)];
        if (l.version == 0) revert NoLimits(number, topic);
        return l;
    }

    /// Whether the limits let this device report the topic, as far as they go: it must also be granted.
    function mayReport(uint16 number, string calldata topic, address member) external view returns (bool) {
        bytes32 key = _topicKey(number, topic);
        Limits storage l = limits[key];
        return l.version != 0 && (!l.listed || listedIn[key][member] == l.version);
    }

    /// What a device has reported on a topic.
    function streamOf(uint16 number, string calldata topic, address member) external view returns (Stream memory) {
        return streams[_topicKey(number, topic)][member];
    }

    /// How many readings of a device were accepted and refused, on all topics.
    function readingsOf(address member) external view returns (uint64 accepted, uint64 refused) {
        return (counts[member].accepted, counts[member].refused);
    }

    // --------------------------------------------------------------------------------------------- who may do what

    /// The current key of an originator that may sign.
    function _keyOf(address originator) private view returns (Key memory) {
        if (_isBuiltIn(originator)) return builtIn[originator];
        return _activeDevice(originator).key;
    }

    function _activeDevice(address number) private view returns (Device storage d) {
        d = _known(number);
        if (!d.active) revert NotActive(number);
    }

    function _known(address number) private view returns (Device storage d) {
        d = devices[number];
        if (!_exists(d)) revert UnknownDevice(number);
    }

    /// Any originator got this far because `_keyOf` let it: what is neither of the built-in ones is an active device.
    function _requireDevice(uint8 kind, address originator) private view {
        if (_isBuiltIn(originator)) revert NotAuthorized(kind, originator);
    }

    function _isBuiltIn(address originator) private view returns (bool) {
        return originator == root || originator == ca || originator == operator;
    }

    function _requireUnused(address by, Key memory key) private view {
        if (builtIn[by].x == key.x && builtIn[by].y == key.y) revert KeyInUse(by);
    }

    function _requireOperator(uint8 kind, address originator) private view {
        if (originator != operator) revert NotAuthorized(kind, originator);
    }

    function _requireMember(uint8 kind, uint16 number, address originator) private view {
        _requireDevice(kind, originator);
        _requireGroup(number);
        if (!granted(number, originator)) revert NotGranted(number, originator);
    }

    function _requireOwner(uint8 kind, uint16 number, address originator) private view {
        _requireGroup(number);
        if (originator != groups[number].owner) revert NotAuthorized(kind, originator);
    }

    function _requireGroup(uint16 number) private view {
        if (groups[number].owner == address(0)) revert UnknownGroup(number);
    }

    function _exists(Device storage d) private view returns (bool) {
        return bytes(d.name).length != 0;
    }

    function _number(string memory name) private view returns (address) {
        return address(uint160(uint256(sha256(abi.encodePacked("sealcast-number-v1", first.ledger, name)))));
    }

    function _isHere(Place memory place) private view returns (bool) {
        return place.chainId == block.chainid && place.ledger == address(this);
    }

    function _topicKey(uint16 number, string memory topic) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(number, topic));
    }

    /// Whether one of the group's filters matches the topic (MQTT 5, 4.7) and nobody else's use reserves it.
    function _covers(uint16 number, bytes memory topic) private view returns (bool) {
        if (topic[0] == "$" || _isOurs(topic)) return false;
        string[] storage filters = filtersOf[number];
        for (uint256 i = 0; i < filters.length; i++) {
            if (_matches(bytes(filters[i]), topic)) return true;
        }
        return false;
    }

    /// Level by level: `+` stands for one, `#` for all that follow and for none. The filter is known to be good.
    function _matches(bytes memory filter, bytes memory topic) private pure returns (bool) {
        uint256 f = 0;
        uint256 t = 0;
        while (true) {
            if (f < filter.length && filter[f] == "#") return true;
            if (f < filter.length && filter[f] == "+") {
                f++;
                while (t < topic.length && topic[t] != "/") t++;
            } else {
                while (f < filter.length && filter[f] != "/") {
                    if (t >= topic.length || topic[t] != filter[f]) return false;
                    f++;
                    t++;
                }
            }
            // Both at the end of a level.
            if (t < topic.length && topic[t] != "/") return false;
            if (f == filter.length) return t == topic.length;
            f++;
            if (t == topic.length) return f + 1 == filter.length && filter[f] == "#";
            t++;
        }
        return false;
    }

    // ---------------------------------------------------------------------------------------------- checking fields

    /// abi.decode forgives bytes after the end, gaps, shared tails and dirt in the padding. A signed body must not.
    function _requireCanonical(uint8 kind, bytes calldata body, bytes memory encoded) private pure {
        if (keccak256(body) != keccak256(encoded)) revert BadBody(kind);
    }

    function _requireLength(string memory field, uint256 length, uint256 min, uint256 max) private pure {
        if (length < min || length > max) revert BadLength(field, length, min, max);
    }

    /// A-Z a-z 0-9 . _ - and no leading dot.
    function _requireName(string memory field, string memory name) private pure {
        bytes memory b = bytes(name);
        _requireLength(field, b.length, 1, MAX_NAME);
        for (uint256 i = 0; i < b.length; i++) {
            bytes1 c = b[i];
            bool allowed = (c >= "a" && c <= "z") || (c >= "A" && c <= "Z") || (c >= "0" && c <= "9") || c == "_"
                || c == "-" || (c == "." && i > 0);
            if (!allowed) revert BadText(field, i);
        }
    }

    /// UTF-8 without control characters.
    function _requireText(string memory field, string memory text, uint256 min, uint256 max) private pure {
        bytes memory b = bytes(text);
        _requireLength(field, b.length, min, max);
        uint256 i = 0;
        while (i < b.length) {
            uint256 size = _characterSize(b, i);
            if (size == 0) revert BadText(field, i);
            i += size;
        }
    }

    function _requireReason(string memory reason) private pure {
        _requireText("reason", reason, 0, MAX_REASON);
    }

    /// A topic's name: text without wildcards.
    function _requireTopic(string memory topic) private pure {
        _requireText("topic", topic, 1, MAX_TOPIC);
        bytes memory b = bytes(topic);
        for (uint256 i = 0; i < b.length; i++) {
            if (b[i] == "+" || b[i] == "#") revert BadText("topic", i);
        }
    }

    /// The length of the UTF-8 character (RFC 3629) that begins at `i`; 0 if there is none, or if it is a control
    /// character (U+0000 to U+001F, U+007F to U+009F).
    function _characterSize(bytes memory b, uint256 i) private pure returns (uint256) {
        uint256 code = uint8(b[i]);
        if (code < 0x80) return code < 0x20 || code == 0x7f ? 0 : 1;

        uint256 size = code >> 5 == 6 ? 2 : code >> 4 == 14 ? 3 : code >> 3 == 30 ? 4 : 0;
        if (size == 0 || i + size > b.length) return 0;
        code &= 0x7f >> size;
        for (uint256 k = 1; k < size; k++) {
            uint256 next = uint8(b[i + k]);
            if (next >> 6 != 2) return 0;
            code = (code << 6) | (next & 0x3f);
        }
        if (size == 2) return code < 0xa0 ? 0 : 2; // overlong below 0x80, controls to 0x9f
        if (size == 3) return code < 0x800 || (code >= 0xd800 && code <= 0xdfff) ? 0 : 3; // overlong, surrogates
        return code < 0x10000 || code > 0x10ffff ? 0 : 4; // overlong, beyond Unicode
    }

    /// An MQTT topic filter (MQTT 5, 4.7) that a group may have.
    function _requireFilter(string memory filter) private pure {
        _requireText("filter", filter, 1, MAX_FILTER);
        bytes memory b = bytes(filter);
        for (uint256 i = 0; i < b.length; i++) {
            if (b[i] != "+" && b[i] != "#") continue;
            bool begins = i == 0 || b[i - 1] == "/";
            bool ends = i + 1 == b.length || (b[i] == "+" && b[i + 1] == "/");
            if (!begins || !ends) revert BadFilter(filter, i);
        }
        if (b[0] == "$" || _isOurs(b)) revert ReservedFilter(filter);
    }

    /// Whether the first level is `sealcast`.
    function _isOurs(bytes memory filter) private pure returns (bool) {
        bytes memory ours = "sealcast";
        if (filter.length < ours.length) return false;
        for (uint256 i = 0; i < ours.length; i++) {
            if (filter[i] != ours[i]) return false;
        }
        return filter.length == ours.length || filter[ours.length] == "/";
    }

    function _equal(string memory a, string memory b) private pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    // ------------------------------------------------------------------------------------------------------- P-256

    address private constant P256VERIFY = address(0x100);
    uint256 private constant P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffff;
    uint256 private constant B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b;

    /// Reads x || y and refuses what is not on the curve y^2 = x^3 - 3x + B (mod P).
    function _publicKey(bytes memory xy) private pure returns (Key memory) {
        _requireLength("publicKey", xy.length, 64, 64);
        (uint256 x, uint256 y) = abi.decode(xy, (uint256, uint256));
        if (x >= P || y >= P) revert BadPublicKey();
        uint256 right = addmod(mulmod(addmod(mulmod(x, x, P), P - 3, P), x, P), B, P);
        if (mulmod(y, y, P) != right) revert BadPublicKey();
        return Key(bytes32(x), bytes32(y));
    }

    /// P256VERIFY (EIP-7951): the output is 1 for a valid signature and empty for any other input. Where the precompile
    /// does not exist the call succeeds with empty output too.
    function _verify(bytes32 digest, bytes32 r, bytes32 s, Key memory key) private view returns (bool) {
        (bool success, bytes memory output) = P256VERIFY.staticcall(abi.encode(digest, r, s, key.x, key.y));
        return success && output.length == 32 && uint256(bytes32(output)) == 1;
    }

    /// Verifies a good signature, over "sealcast-p256-probe", by a key that was thrown away.
    function _p256Works() private view returns (bool) {
        return _verify(
            0xc70f42ee2479be586eb3ad84e19a0ff2f23056a26329f26c28341208424b4927,
            0xd8f868835b3e007e6120a03641bf35f7c38b275b3e875bc8e223a17c1a4a7cea,
            0x97bcc20ae56d31577331a8a65a1f53db7b5b52b15db66703f92adb2c5fff6394,
            Key(
                0x448a3ed1d5ebfa8d77fe4df5301416c4d8df2237d6a3b0b938cace16bde7ee41,
                0x723751603062f181eee86456a483bf2344cadd433ba2aaaa02010715c6aed3b7
            )
        );
    }
}
