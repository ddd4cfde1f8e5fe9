from django.db import migrations


class Migration(migrations.Migration):
    """A new name of the model. The table keeps its own, so the database does nothing."""

    dependencies = [("audit", "0001_events")]

    operations = [
        migrations.AlterModelTable("Pending", "audit_pending"),
        migrations.RenameModel("Pending", "PendingEvent"),
    ]
