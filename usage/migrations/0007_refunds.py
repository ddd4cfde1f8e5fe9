"""Refunds of bought credits: an entry of the ledger names the payment that it belongs to, and may take a refund back."""

from django.db import migrations, models

MOVES = (
    models.Q(kind="grant", amount__gt=0, category__isnull=False, lot=None)
    | models.Q(kind__in=["charge", "expiry", "refund"], amount__lt=0, category=None)
    | models.Q(kind="settlement", category=None)
)


class Migration(migrations.Migration):
    dependencies = [("usage", "0006_limit_rounds")]

    operations = [
        migrations.AlterField(
            "ledgerentry",
            "kind",
            models.CharField(
                max_length=10,
                choices=[
                    ("grant", "Grant"),
                    ("charge", "Charge"),
                    ("expiry", "Expiry"),
                    ("settlement", "Settlement"),
                    ("refund", "Refund"),
                ],
            ),
        ),
        migrations.AddField("ledgerentry", "payment", models.CharField(max_length=255, null=True)),
        migrations.AddIndex(
            "ledgerentry",
            models.Index("payment", condition=models.Q(payment__isnull=False), name="entries_of_a_payment"),
        ),
        migrations.RemoveConstraint("ledgerentry", "entries_move_the_way_of_their_kind"),
        migrations.AddConstraint(
            "ledgerentry", models.CheckConstraint(condition=MOVES, name="entries_move_the_way_of_their_kind")
        ),
    ]
