// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import {Handler} from "./Handler.sol";
import {MOVED} from "./Site.sol";
import {vm} from "./Vm.sol";

/// What holds after any entries of anybody, good or bad, as the [`Handler`] submits them.
contract InvariantsTest {
    struct FuzzSelector {
        address target;
        bytes4[] selectors;
    }

    Handler private handler;
    SealcastLedger private ledger;

    function setUp() public {
        handler = new Handler();
        ledger = handler.theLedger();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0].target = address(handler);
        targets[0].selectors = new bytes4[](2);
        targets[0].selectors[0] = Handler.step.selector;
        targets[0].selectors[1] = Handler.stepMany.selector;
    }

    /// All in one: each invariant would be a campaign of its own.
    function invariant_the_books_agree() external view {
        requireHeads();
        requireNonces();
        requireEpochs();
    }

    function requireHeads() private view {
        vm.assertEq(ledger.head(), handler.head(), "head");
        vm.assertEq(ledger.height(), handler.entries(), "height, the number of Entry events");
    }

    function requireNonces() private view {
        uint256 sum = 0;
        for (uint256 i = 0; i < 8; i++) {
            address originator = handler.everybody(i);
            vm.assertEq(ledger.nonceOf(originator), handler.entriesOf(originator), "nonceOf");
            sum += ledger.nonceOf(originator);
        }
        vm.assertEq(sum, ledger.height(), "the entries of all");
    }

    /// Any commit that was taken counts, whatever is in it.
    function requireEpochs() private view {
        for (uint16 number = 1; number <= handler.groups(); number++) {
            (uint32 generation, uint64 epoch) = ledger.epochOf(number);
            vm.assertEq(epoch, handler.commitsIn(number, generation), "the commits of a generation");
        }
    }

    /// The invariants above say something only if the steps reach every kind, both ways.
    function test_steps_take_and_refuse_each_kind() external {
        for (uint256 seed = 0; seed < 1000; seed++) handler.step(seed);
        for (uint8 kind = 1; kind < MOVED; kind++) {
            vm.assertTrue(handler.takenOf(kind) > 0, string.concat("taken of kind ", vm.toString(kind)));
            vm.assertTrue(handler.refusedOf(kind) > 0, string.concat("refused of kind ", vm.toString(kind)));
        }
    }
}
