// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import {Vm, vm} from "./Vm.sol";

uint8 constant DEVICE_REGISTERED = 1;
uint8 constant DEVICE_REVOKED = 2;
uint8 constant KEYS_PUBLISHED = 3;
uint8 constant GROUP_CREATED = 4;
uint8 constant GRANTED = 5;
uint8 constant REVOKED = 6;
uint8 constant COMMIT = 7;
uint8 constant READING = 8;
uint8 constant ANCHOR = 9;
uint8 constant GROUP_RESET = 10;
uint8 constant LIMITS_SET = 11;
uint8 constant FAULT_REPORTED = 12;
uint8 constant KEY_ROTATED = 13;
uint8 constant MOVED = 14;
uint8 constant LAST_KIND = MOVED;

/// A ledger, the keys of everybody who signs, and what a test does with them.
abstract contract Site {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant ROOT_KEY = 0xa001;
    uint256 internal constant CA_KEY = 0xa002;
    uint256 internal constant OPERATOR_KEY = 0xa003;

    SealcastLedger internal ledger;
    address internal root;
    address internal ca;
    address internal operator;
    /// The private key that an originator signs by.
    mapping(address originator => uint256) internal keyOf;

    // ------------------------------------------------------------------------------------------------ deployment

    function setUp() public virtual {
        vm.warp(START);
        ledger = deploy(0, address(0));
        (root, ca, operator) = (ledger.root(), ledger.ca(), ledger.operator());
        (keyOf[root], keyOf[ca], keyOf[operator]) = (ROOT_KEY, CA_KEY, OPERATOR_KEY);
    }

    /// A ledger of the usual keys; one that succeeds this one, if it is not zero.
    function deploy(uint64 chainId, address first) internal returns (SealcastLedger) {
        bytes memory code = abi.encodePacked(
            vm.getCode("./SealcastLedger.json"),
            abi.encode(xy(ROOT_KEY), xy(CA_KEY), xy(OPERATOR_KEY), chainId, first)
        );
        (address deployed,) = create(code);
        vm.assertTrue(deployed != address(0), "the contract is deployed");
        return SealcastLedger(deployed);
    }

    /// The new contract; or zero and what its constructor reverted with.
    function create(bytes memory code) internal returns (address deployed, bytes memory refusal) {
        assembly ("memory-safe") {
            deployed := create(0, add(code, 32), mload(code))
            if iszero(deployed) {
                refusal := mload(0x40)
                mstore(refusal, returndatasize())
                returndatacopy(add(refusal, 32), 0, returndatasize())
                mstore(0x40, and(add(add(refusal, returndatasize()), 63), not(31)))
            }
        }
    }

    // ------------------------------------------------------------------------------------------------ submission

    function xy(uint256 privateKey) internal pure returns (bytes memory) {
        (uint256 x, uint256 y) = vm.publicKeyP256(privateKey);
        return abi.encode(x, y);
    }

    function sign(uint256 privateKey, bytes32 digest) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 s) = vm.signP256(privateKey, digest);
        return abi.encode(r, s);
    }

    /// The call that submits the body as its originator's next entry.
    function submission(uint8 kind, address originator, bytes memory body) internal view returns (bytes memory) {
        uint64 nonce = ledger.nonceOf(originator);
        bytes memory signature = sign(keyOf[originator], ledger.digestOf(kind, originator, nonce, body));
        return abi.encodeCall(ledger.submit, (kind, originator, nonce, body, signature));
    }

    /// Submits what the contract must take.
    function take(uint8 kind, address originator, bytes memory body) internal {
        bytes memory call = submission(kind, originator, body);
        uint64 height = ledger.height();
        (bool taken, bytes memory refusal) = address(ledger).call(call);
        vm.assertEq(refusal, "", "why it is refused");
        vm.assertTrue(taken, "the entry is taken");
        vm.assertEq(ledger.height(), height + 1, "height");
    }

    /// Submits what the contract must refuse with exactly this error, and without a trace.
    function refuse(uint8 kind, address originator, bytes memory body, bytes memory expected) internal {
        refuseCall(submission(kind, originator, body), expected);
    }

    function refuseCall(bytes memory call, bytes memory expected) internal {
        (bytes32 head, uint64 height) = (ledger.head(), ledger.height());
        (bool taken, bytes memory refusal) = address(ledger).call(call);
        vm.assertTrue(!taken, "the entry is refused");
        vm.assertEq(refusal, expected, "why it is refused");
        vm.assertEq(ledger.head(), head, "head");
        vm.assertEq(ledger.height(), height, "height");
    }

    /// A view that must revert with exactly this error.
    function refuseView(bytes memory call, bytes memory expected) internal view {
        (bool answered, bytes memory refusal) = address(ledger).staticcall(call);
        vm.assertTrue(!answered, "the view reverts");
        vm.assertEq(refusal, expected, "why it reverts");
    }

    // ------------------------------------------------------------------------------------------------------ bodies

    function registration(string memory name, uint256 privateKey) internal pure returns (bytes memory) {
        return registration(name, xy(privateKey), hex"01");
    }

    function registration(string memory name, bytes memory publicKey, bytes memory serial)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encode(name, publicKey, certificateOf(name), serial, uint64(START + 365 days));
    }

    function certificateOf(string memory name) internal pure returns (bytes32) {
        return sha256(bytes(name));
    }

    function creation(string memory name, string memory filter) internal pure returns (bytes memory) {
        string[] memory filters = new string[](1);
        filters[0] = filter;
        return creation(name, filters, 0);
    }

    function creation(string memory name, string[] memory filters, uint8 authenticity)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encode(name, filters, uint32(3600), uint32(1000), uint16(2), authenticity, uint32(600));
    }

    /// The ledger is at that contract.
    function moving(SealcastLedger to) internal view returns (bytes memory) {
        return abi.encode(uint64(block.chainid), address(to));
    }

    function rotation(address whose, uint256 newKey) internal view returns (bytes memory) {
        bytes memory publicKey = xy(newKey);
        return abi.encode(whose, publicKey, sign(newKey, ledger.takeoverOf(whose, publicKey)));
    }

    /// The character, that many times.
    function text(uint256 length, bytes1 character) internal pure returns (string memory) {
        bytes memory characters = new bytes(length);
        for (uint256 i = 0; i < length; i++) characters[i] = character;
        return string(characters);
    }

    // ---------------------------------------------------------------------------------------------- usual entries

    /// A device of this name, with a key of its own.
    function device(string memory name) internal returns (address number) {
        number = ledger.numberOf(name);
        keyOf[number] = uint256(keccak256(bytes(name))) >> 1;
        take(DEVICE_REGISTERED, ca, registration(name, keyOf[number]));
    }

    /// The next group, of everything below its name.
    function group(string memory name) internal returns (uint16) {
        take(GROUP_CREATED, operator, creation(name, string.concat(name, "/#")));
        return ledger.groupCount();
    }

    function grant(uint16 number, address who) internal {
        take(GRANTED, operator, abi.encode(number, who));
    }

    /// A device of this name that may be a member of the group.
    function member(string memory name, uint16 number) internal returns (address who) {
        who = device(name);
        grant(number, who);
    }

    function commit(uint16 number, address author) internal {
        (uint32 generation, uint64 epoch) = ledger.epochOf(number);
        take(COMMIT, author, abi.encode(number, generation, epoch, bytes("commit")));
    }
}
